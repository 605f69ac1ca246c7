// Tests of expert_choice_loss: the reference against the complex step, and every device against the reference.
#include "ops/checks/expert_choice_loss.h"

#include "test/ops/bytes.h"
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

constexpr double kThreshold = 0.25, kBceScale = 0.7, kZScale = 0.3;

std::vector<uint8_t> every_third(int64_t p) {
  std::vector<uint8_t> selected;
  for (int64_t i = 0; i < p; ++i) selected.push_back(i % 3 == 0 ? 1 : 0);
  return selected;
}

/// inputs: scores [P], start values of sums and d_scores. outputs: sums, d_scores, after two calls.
Arrays twice(Ops& ops, const Arrays& in, const Step& step = {}) {
  Buffer scores(ops, ops.master_dtype(), in[0].rows, 1, "scores"), sums(ops, ops.master_dtype(), 3, 1, "sums");
  Buffer d_scores(ops, ops.master_dtype(), in[0].rows, 1, "d_scores");
  Bytes selected(ops, every_third(in[0].rows));
  fill(scores, in[0], 0, step);
  sums.set(in[1]);
  d_scores.set(in[2]);
  for (int time = 0; time < 2; ++time)
    ops.expert_choice_loss(scores.tensor(), selected.data(), kThreshold, kBceScale, kZScale, sums.tensor(),
                           d_scores.tensor());
  return {read(sums, step), read(d_scores, step)};
}

TEST(ExpertChoiceLoss, ReferenceGradientIsTheComplexStep) {
  Array scores = random_array(7, 1, 1, 3), weights(3, 1);
  weights.values = {kBceScale, kZScale, 0};
  RefOps<double> ops;
  const Array gradient = twice(ops, {scores, Array(3, 1), Array(7, 1)})[1];
  expect_reference_gradient(
      [](Ops& c, const Arrays& in, const Step& step) -> Arrays { return {twice(c, in, step)[0]}; },
      {scores, Array(3, 1), Array(7, 1)}, {weights}, {gradient}, {0});
}

TEST(ExpertChoiceLoss, KnownValues) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Buffer scores(*ops, DType::float32, 3, 1, "scores"), sums(*ops, DType::float32, 3, 1, "sums");
    Bytes selected(*ops, {1, 0, 1});
    Array s(3, 1);
    s.values = {0, -200, 0.25};
    scores.set(s);
    sums.set(Array(3, 1));
    ops->expert_choice_loss(scores.tensor(), selected.data(), 0.25, 1, 1, sums.tensor(), {});
    EXPECT_NEAR(sums.get()(0), std::log(2.0) + std::log1p(std::exp(-0.25)), 1e-6);
    EXPECT_NEAR(sums.get()(1), 40000.0625, 0.01);
    EXPECT_EQ(sums.get()(2), 2);  // the first was selected although it is below the threshold
  }
}

TEST(ExpertChoiceLoss, AccumulatesAndMatchesReference) {
  for (int64_t p : {0, 1, 5, 2000})
    for (double scale : {1.0, 30.0})
      compare_with_reference([](Ops& ops, const Arrays& in) { return twice(ops, in); },
                             {random_array(p, 1, 2, scale), random_array(3, 1, 3), random_array(p, 1, 4)},
                             {false, false, false}, {false, false});
}

TEST(ExpertChoiceLoss, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer scores(ops, ops.master_dtype(), 4, 1, "scores"), sums(ops, ops.master_dtype(), 2, 1, "sums");
        Bytes selected(ops, every_third(4));
        ops.expert_choice_loss(scores.tensor(), selected.data(), 0, 1, 0, sums.tensor(), {});
      },
      "expert_choice_loss: sums has 2 elements, but 3 are needed");
}

}  // namespace
}  // namespace mor::test
