// Tests of router_scores: the reference against the complex step, and every device against the reference.
#include "ops/checks/router_scores.h"

#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// inputs: x [M,d], weight [n,d]. outputs: scores [R,n].
Arrays forward(Ops& ops, const Arrays& in, const std::vector<int32_t>& source, const Step& step) {
  const int64_t rows = static_cast<int64_t>(source.size()), n = in[1].rows;
  Buffer x(ops, ops.compute_dtype(), in[0].rows, in[0].columns, "x");
  Buffer weight(ops, ops.compute_dtype(), n, in[1].columns, "weight");
  Buffer scores(ops, ops.master_dtype(), rows, n, "scores");
  Integers index(ops, source);
  fill(x, in[0], 0, step);
  fill(weight, in[1], 1, step);
  ops.router_scores_forward(x.tensor(), index.data(), weight.tensor(), scores.tensor());
  return {read(scores, step)};
}

/// inputs: d_scores [R,n], x, weight, start values of d_x and d_weight. The backward runs twice into the same buffers.
Arrays backward_twice(Ops& ops, const Arrays& in, const std::vector<int32_t>& source, bool detached) {
  const int64_t m = in[1].rows, d = in[1].columns, n = in[2].rows;
  Buffer d_scores(ops, ops.master_dtype(), in[0].rows, n, "d_scores"), x(ops, ops.compute_dtype(), m, d, "x");
  Buffer weight(ops, ops.compute_dtype(), n, d, "weight"), d_x(ops, ops.compute_dtype(), m, d, "d_x");
  Buffer d_weight(ops, ops.master_dtype(), n, d, "d_weight");
  Integers index(ops, source);
  d_scores.set(in[0]);
  x.set(in[1]);
  weight.set(in[2]);
  d_x.set(in[3]);
  d_weight.set(in[4]);
  for (int time = 0; time < 2; ++time)
    ops.router_scores_backward(d_scores.tensor(), x.tensor(), index.data(), weight.tensor(),
                               detached ? Tensor{} : d_x.tensor(), d_weight.tensor());
  return {d_x.get(), d_weight.get()};
}

std::vector<int32_t> every_other_row(int64_t m) {
  std::vector<int32_t> source;
  for (int32_t i = static_cast<int32_t>(m) - 1; i >= 0; i -= 2) source.push_back(i);
  return source;
}

TEST(RouterScores, ReferenceGradientIsTheComplexStep) {
  const std::vector<int32_t> source = {3, 1, 0};
  const Array x = random_array(4, 5, 1), weight = random_array(2, 5, 2), loss = random_array(3, 2, 3);
  RefOps<double> ops;
  const Arrays twice = backward_twice(ops, {loss, x, weight, Array(4, 5), Array(2, 5)}, source, false);
  expect_reference_gradient([&](Ops& c, const Arrays& in, const Step& step) { return forward(c, in, source, step); },
                            {x, weight}, {loss}, {halved(twice[0]), halved(twice[1])}, {0, 1});
}

TEST(RouterScores, ForwardMatchesReference) {
  for (int64_t rows : {0, 200})
    for (int64_t d : {1, 15, 64, 577})
      for (int64_t n : {1, 3, 8}) {
        const std::vector<int32_t> source = every_other_row(rows);
        compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, source, {}); },
                               {random_array(rows, d, 4), random_array(n, d, 5)}, {true, true}, {false});
      }
}

TEST(RouterScores, RowsAloneScoreAsInABatch) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays in = {random_array(5, 577, 4), random_array(3, 577, 5)};
    const Array batch = forward(*ops, in, {4, 2, 0, 1, 3}, {})[0];
    for (int32_t i = 0; i < 5; ++i) {
      const Array alone = forward(*ops, in, {std::vector<int32_t>{4, 2, 0, 1, 3}[static_cast<size_t>(i)]}, {})[0];
      for (int64_t o = 0; o < 3; ++o) EXPECT_EQ(alone(0, o), batch(i, o)) << subject.name;
    }
  }
}

TEST(RouterScores, BackwardAccumulatesAndMatchesReference) {
  for (int64_t rows : {0, 1, 5, 300})
    for (int64_t d : {1, 15, 64, 577})
      for (int64_t n : {1, 3})
        for (bool detached : {false, true}) {
          const std::vector<int32_t> source = every_other_row(rows);
          compare_with_reference([&](Ops& ops, const Arrays& in) { return backward_twice(ops, in, source, detached); },
                                 {random_array(static_cast<int64_t>(source.size()), n, 6), random_array(rows, d, 7),
                                  random_array(n, d, 8), random_array(rows, d, 9), random_array(n, d, 10)},
                                 {false, true, true, true, false}, {true, false});
        }
}

TEST(RouterScores, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 4, 8, "x"), weight(ops, ops.compute_dtype(), 2, 7, "weight");
        Buffer scores(ops, ops.master_dtype(), 4, 2, "scores");
        ops.router_scores_forward(x.tensor(), nullptr, weight.tensor(), scores.tensor());
      },
      "router_scores: weight is 2 x 7, but 2 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
