// Tests of cross_entropy: the reference against the complex step, and every device against the reference.
#include "ops/checks/cross_entropy.h"

#include "test/ops/harness.h"
#include "test/ops/some_targets.h"

namespace mor::test {
namespace {

constexpr double kScale = 0.25;

/// inputs: x [R,d], weight [V,d]. outputs: losses [R].
Arrays forward(Ops& ops, const Arrays& in, const std::vector<int32_t>& target) {
  Buffer x(ops, ops.compute_dtype(), in[0].rows, in[0].columns, "x");
  Buffer weight(ops, ops.compute_dtype(), in[1].rows, in[1].columns, "weight");
  Buffer losses(ops, ops.master_dtype(), in[0].rows, 1, "losses");
  Integers targets(ops, target);
  x.set(in[0]);
  weight.set(in[1]);
  ops.cross_entropy_forward(x.tensor(), weight.tensor(), targets.data(), losses.tensor());
  return {losses.get()};
}

/// inputs: x, weight, start value of d_weight. outputs: losses, d_x, d_weight, after two calls into the same buffers.
Arrays backward_twice(Ops& ops, const Arrays& in, const std::vector<int32_t>& target) {
  const int64_t rows = in[0].rows, d = in[0].columns, vocabulary = in[1].rows;
  Buffer x(ops, ops.compute_dtype(), rows, d, "x"), weight(ops, ops.compute_dtype(), vocabulary, d, "weight");
  Buffer losses(ops, ops.master_dtype(), rows, 1, "losses"), d_x(ops, ops.compute_dtype(), rows, d, "d_x");
  Buffer d_weight(ops, ops.master_dtype(), vocabulary, d, "d_weight");
  Integers targets(ops, target);
  x.set(in[0]);
  weight.set(in[1]);
  d_weight.set(in[2]);
  for (int time = 0; time < 2; ++time)
    ops.cross_entropy_backward(x.tensor(), weight.tensor(), targets.data(), kScale, losses.tensor(), d_x.tensor(),
                               d_weight.tensor());
  return {losses.get(), d_x.get(), d_weight.get()};
}

/// backward_twice in float, but with the gradient of the logits rounded to bfloat16, as products in bfloat16 need it.
Arrays naive_bfloat16_backward_twice(const Arrays& in, const std::vector<int32_t>& target) {
  const int64_t d = in[0].columns, vocabulary = in[1].rows;
  RefOps<float> ops;
  Arrays out = {forward(ops, {in[0], in[1]}, target)[0], Array(in[0].rows, d), in[2]};
  const auto dot = [&](int64_t i, int64_t j) {
    float sum = 0;
    for (int64_t c = 0; c < d; ++c) sum += static_cast<float>(in[0](i, c) * in[1](j, c));
    return sum;
  };
  for (int64_t i = 0; i < in[0].rows; ++i) {
    const int32_t t = target[static_cast<size_t>(i)];
    if (t < 0) continue;
    const float lse = static_cast<float>(out[0](i)) + dot(i, t);
    for (int64_t j = 0; j < vocabulary; ++j) {
      const float exact = static_cast<float>(kScale) * (std::exp(dot(i, j) - lse) - (j == t ? 1.0f : 0.0f));
      const auto g = static_cast<double>(static_cast<float>(bfloat16(exact)));
      for (int64_t c = 0; c < d; ++c) {
        out[1](i, c) += g * in[1](j, c);
        out[2](j, c) += 2 * g * in[0](i, c);
      }
    }
  }
  return out;
}

/// The largest row count and the largest vocabulary do not fit one tile of the CPU.
struct Shape {
  int64_t rows, d, vocabulary;
};
const std::vector<Shape> kShapes = {{0, 8, 5},     {1, 1, 1},      {1, 16, 257},  {5, 15, 33},
                                    {64, 24, 256}, {33, 64, 1000}, {600, 6, 1800}};

TEST(CrossEntropy, ReferenceGradientIsTheComplexStep) {
  const std::vector<int32_t> target = {2, -1, 0, 6};
  const Array x = random_array(4, 5, 1), weight = random_array(7, 5, 2), loss(4, 1, kScale);
  RefOps<double> ops;
  const Arrays twice = backward_twice(ops, {x, weight, Array(7, 5)}, target);
  Array d_weight = twice[2];
  for (double& value : d_weight.values) value /= 2;
  const PerturbedForward perturbed = [&](RefOps<Complex>& c, const Arrays& in, const Step& step) -> Arrays {
    Buffer x(c, DType::complex128, 4, 5, "x"), w(c, DType::complex128, 7, 5, "w"), l(c, DType::complex128, 4, 1, "l");
    x.set(in[0]);
    w.set(in[1]);
    (step.input == 0 ? x : w).add_imaginary(step.i, step.j, step.h);
    c.cross_entropy_forward(x.tensor(), w.tensor(), target.data(), l.tensor());
    return {l.get_imaginary()};
  };
  expect_complex_step_gradient(perturbed, {x, weight}, {loss}, {twice[1], d_weight}, {0, 1});
}

TEST(CrossEntropy, ForwardMatchesReference) {
  for (const Shape& s : kShapes) {
    const std::vector<int32_t> target = some_targets(s.rows, s.vocabulary);
    compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, target); },
                           {random_array(s.rows, s.d, 4), random_array(s.vocabulary, s.d, 5)}, {true, true}, {false});
  }
}

TEST(CrossEntropy, BackwardAccumulatesWeightsAndMatchesReference) {
  for (const Shape& s : kShapes) {
    const std::vector<int32_t> target = some_targets(s.rows, s.vocabulary);
    SCOPED_TRACE(concat(s.rows, " x ", s.vocabulary));
    const OpCall call = [&](Ops& ops, const Arrays& in) { return backward_twice(ops, in, target); };
    const auto expected_of = [&](DType compute) -> Expected {
      RefOps<double> exact_ops;
      RefOps<float> naive_ops;
      const Arrays in = rounded(
          {random_array(s.rows, s.d, 6), random_array(s.vocabulary, s.d, 7), random_array(s.vocabulary, s.d, 8)},
          {true, true, false}, compute);
      return {in, call(exact_ops, in),
              compute == DType::bfloat16 ? naive_bfloat16_backward_twice(in, target) : call(naive_ops, in)};
    };
    compare_with(expected_of, call, {false, true, false});
  }
}

TEST(CrossEntropy, WithoutAGradientOfTheWeightsTheRestIsTheSame) {
  const std::vector<int32_t> target = some_targets(9, 40);
  const Array x = random_array(9, 16, 1), weight = random_array(40, 16, 2);
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays with = backward_twice(*ops, {x, weight, Array(40, 16)}, target);
    Buffer x_(*ops, ops->compute_dtype(), 9, 16, "x"), w(*ops, ops->compute_dtype(), 40, 16, "weight");
    Buffer losses(*ops, ops->master_dtype(), 9, 1, "losses"), d_x(*ops, ops->compute_dtype(), 9, 16, "d_x");
    Integers targets(*ops, target);
    x_.set(x);
    w.set(weight);
    ops->cross_entropy_backward(x_.tensor(), w.tensor(), targets.data(), kScale, losses.tensor(), d_x.tensor(), {});
    EXPECT_EQ(losses.get().values, with[0].values);
    EXPECT_EQ(d_x.get().values, with[1].values);
  }
}

TEST(CrossEntropy, IgnoredRowsHaveNoLossAndNoGradient) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays out =
        backward_twice(*ops, {random_array(3, 8, 1), random_array(20, 8, 2), Array(20, 8)}, {-1, -1, -1});
    for (const Array& array : out)
      for (double value : array.values) ASSERT_EQ(value, 0);
  }
}

TEST(CrossEntropy, LogitsOfAThousandDoNotOverflow) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays in = {Array(2, 4, 16), Array(3, 4, 16), Array(3, 4)};  // every logit is 1024
    const Arrays out = backward_twice(*ops, in, {0, 2});
    for (double loss : out[0].values) EXPECT_NEAR(loss, std::log(3.0), 1e-4);  // 1024 + log 3 in float has 1e-4 steps
    for (double d_x : out[1].values) EXPECT_NEAR(d_x, 0, 0.1);
  }
}

TEST(CrossEntropy, TargetOutsideTheVocabularyIsAnError) {
  for (const Subject& subject : subjects())
    for (int32_t wrong : {5, -2}) {
      const std::unique_ptr<Ops> ops = subject.make();
      try {
        forward(*ops, {Array(2, 4), Array(5, 4)}, {0, wrong});
        FAIL() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::TOKEN_OUT_OF_RANGE);
        EXPECT_EQ(std::string(error.what()),
                  "cross_entropy: target " + std::to_string(wrong) +
                      " of row 1 is outside the vocabulary of 5 (-1 means: ignore this row)");
      }
    }
}

TEST(CrossEntropy, WrongShapesAreNamed) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    Buffer x(*ops, subject.compute, 2, 8, "x"), weight(*ops, subject.compute, 5, 7, "weight");
    Buffer losses(*ops, DType::float32, 2, 1, "losses");
    Integers target(*ops, {0, 1});
    try {
      ops->cross_entropy_forward(x.tensor(), weight.tensor(), target.data(), losses.tensor());
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
      EXPECT_STREQ(error.what(), "cross_entropy: weight is 5 x 7, but 5 x 8 is needed");
    }
  }
}

}  // namespace
}  // namespace mor::test
