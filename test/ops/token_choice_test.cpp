// Tests of token_choice: the reference against the complex step, and every device against the reference.
#include "ops/checks/token_choice.h"

#include "test/ops/perturb.h"

namespace mor::test {
namespace {

constexpr double kAlpha = 0.5, kZScale = 0.3;

struct Result {
  std::vector<int32_t> depth;
  Arrays arrays;  ///< probabilities, gate, load, p_sum, z_sum
};

/// inputs: logits [R,N], bias [N], start values of load [N], p_sum [N], z_sum [1].
Result forward(Ops& ops, const Arrays& in, Activation activation, const Step& step = {}) {
  const int64_t rows = in[0].rows, n = in[0].columns;
  Buffer logits(ops, ops.master_dtype(), rows, n, "logits"), bias(ops, ops.master_dtype(), 1, n, "bias");
  Buffer probabilities(ops, ops.master_dtype(), rows, n, "probabilities"),
      gate(ops, ops.master_dtype(), rows, 1, "gate");
  Buffer load(ops, ops.master_dtype(), 1, n, "load"), p_sum(ops, ops.master_dtype(), 1, n, "p_sum");
  Buffer z_sum(ops, ops.master_dtype(), 1, 1, "z_sum");
  Integers depth(ops, std::vector<int32_t>(static_cast<size_t>(rows), -7));
  fill(logits, in[0], 0, step);
  bias.set(in[1]);
  load.set(in[2]);
  p_sum.set(in[3]);
  z_sum.set(in[4]);
  ops.token_choice_forward(logits.tensor(), bias.tensor(), activation, kAlpha, probabilities.tensor(), depth.data(),
                           gate.tensor(), load.tensor(), p_sum.tensor(), z_sum.tensor());
  return {depth.get(),
          {read(probabilities, step), read(gate, step), read(load, step), read(p_sum, step), read(z_sum, step)}};
}

/// inputs: d_gate [R], logits [R,N], p_scale [N], bias [N]. outputs: d_logits.
Arrays backward(Ops& ops, const Arrays& in, Activation activation) {
  const int64_t rows = in[1].rows, n = in[1].columns;
  const Result known = forward(ops, {in[1], in[3], Array(1, n), Array(1, n), Array(1, 1)}, activation);
  Buffer d_gate(ops, ops.master_dtype(), rows, 1, "d_gate"), logits(ops, ops.master_dtype(), rows, n, "logits");
  Buffer p_scale(ops, ops.master_dtype(), 1, n, "p_scale"), d_logits(ops, ops.master_dtype(), rows, n, "d_logits");
  Buffer probabilities(ops, ops.master_dtype(), rows, n, "probabilities");
  Integers depth(ops, known.depth);
  d_gate.set(in[0]);
  logits.set(in[1]);
  p_scale.set(in[2]);
  probabilities.set(known.arrays[0]);
  ops.token_choice_backward(d_gate.tensor(), logits.tensor(), probabilities.tensor(), depth.data(), activation, kAlpha,
                            p_scale.tensor(), kZScale, d_logits.tensor());
  return {d_logits.get()};
}

const Activation kActivations[] = {Activation::softmax, Activation::sigmoid};

Arrays forward_inputs(int64_t rows, int64_t n, double scale) {
  return {random_array(rows, n, 1, scale), random_array(1, n, 2, 0.1), random_array(1, n, 3), random_array(1, n, 4),
          random_array(1, 1, 5)};
}

TEST(TokenChoice, ReferenceGradientIsTheComplexStep) {
  for (Activation activation : kActivations) {
    const Array logits = random_array(5, 3, 1), bias = random_array(1, 3, 2), p_scale = random_array(1, 3, 3);
    const Array d_gate = random_array(5, 1, 4);
    RefOps<double> ops;
    const Arrays gradient = backward(ops, {d_gate, logits, p_scale, bias}, activation);
    expect_reference_gradient(
        [&](Ops& c, const Arrays& in, const Step& step) { return forward(c, in, activation, step).arrays; },
        {logits, bias, Array(1, 3), Array(1, 3), Array(1, 1)},
        {Array(5, 3), d_gate, Array(1, 3), p_scale, Array(1, 1, kZScale)}, {gradient[0]}, {0});
  }
}

TEST(TokenChoice, MatchesReference) {
  for (Activation activation : kActivations)
    for (int64_t rows : {0, 1, 5, 1000})
      for (int64_t n : {1, 3, 7}) {
        compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, activation).arrays; },
                               forward_inputs(rows, n, 2), std::vector<bool>(5, false), std::vector<bool>(5, false));
        compare_with_reference(
            [&](Ops& ops, const Arrays& in) { return backward(ops, in, activation); },
            {random_array(rows, 1, 6), random_array(rows, n, 7, 2), random_array(1, n, 8), random_array(1, n, 9, 0.1)},
            std::vector<bool>(4, false), {false});
      }
}

TEST(TokenChoice, DepthsAreTheReferences) {
  for (Activation activation : kActivations)
    for (const Subject& subject : subjects()) {
      const std::unique_ptr<Ops> ops = subject.make();
      RefOps<double> reference;
      Arrays in = forward_inputs(300, 4, 2);
      for (Array& a : in) a = rounded(a, DType::float32);
      EXPECT_EQ(forward(*ops, in, activation).depth, forward(reference, in, activation).depth) << subject.name;
    }
}

TEST(TokenChoice, TiesGoToTheSmallerDepthAndBiasDecides) {
  for (Activation activation : kActivations)
    for (const Subject& subject : subjects()) {
      const std::unique_ptr<Ops> ops = subject.make();
      Arrays in = {Array(2, 3, 0.5), Array(1, 3), Array(1, 3), Array(1, 3), Array(1, 1)};
      Result result = forward(*ops, in, activation);
      EXPECT_EQ(result.depth, (std::vector<int32_t>{1, 1})) << subject.name;
      EXPECT_EQ(result.arrays[2].values, (std::vector<double>{2, 0, 0})) << subject.name;
      in[1].values = {0, 0.01, 0};
      result = forward(*ops, in, activation);
      EXPECT_EQ(result.depth, (std::vector<int32_t>{2, 2})) << subject.name;
      EXPECT_EQ(result.arrays[1](0), result.arrays[0](0, 1)) << "the gate must not contain the bias";
    }
}

TEST(TokenChoice, LargeLogitsStayFinite) {
  for (Activation activation : kActivations)
    for (const Subject& subject : subjects()) {
      const std::unique_ptr<Ops> ops = subject.make();
      Array logits(1, 2);
      logits.values = {1000, -1000};
      const Result result = forward(*ops, {logits, Array(1, 2), Array(1, 2), Array(1, 2), Array(1, 1)}, activation);
      EXPECT_EQ(result.arrays[0].values, (std::vector<double>{kAlpha, 0})) << subject.name;
      EXPECT_EQ(result.arrays[4](0), 1e6) << subject.name;
      const Array d_logits = backward(*ops, {Array(1, 1, 1), logits, Array(1, 2), Array(1, 2)}, activation)[0];
      for (double d : d_logits.values) EXPECT_TRUE(std::isfinite(d)) << subject.name;
    }
}

TEST(TokenChoice, TanhIsAnError) {
  expect_invalid([](Ops& ops) { forward(ops, forward_inputs(2, 3, 1), Activation::tanh); },
                 "token_choice_forward: tanh gives no probabilities; use softmax or sigmoid");
}

}  // namespace
}  // namespace mor::test
