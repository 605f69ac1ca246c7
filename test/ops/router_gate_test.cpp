// Tests of router_gate: the reference against the complex step, and every device against the reference.
#include "ops/checks/router_gate.h"

#include "test/ops/perturb.h"

namespace mor::test {
namespace {

constexpr double kAlpha = 0.1;

/// inputs: scores [P]. outputs: gate [R].
Arrays forward(Ops& ops, const Arrays& in, const std::vector<int32_t>& index, Activation activation, const Step& step) {
  Buffer scores(ops, ops.master_dtype(), in[0].rows, 1, "scores");
  Buffer gate(ops, ops.master_dtype(), static_cast<int64_t>(index.size()), 1, "gate");
  Integers rows(ops, index);
  fill(scores, in[0], 0, step);
  ops.router_gate_forward(scores.tensor(), rows.data(), activation, kAlpha, gate.tensor());
  return {read(gate, step)};
}

/// inputs: d_gate [R], scores [P], start value of d_scores. The backward runs twice into the same buffer.
Arrays backward_twice(Ops& ops, const Arrays& in, const std::vector<int32_t>& index, Activation activation) {
  Buffer d_gate(ops, ops.master_dtype(), in[0].rows, 1, "d_gate");
  Buffer scores(ops, ops.master_dtype(), in[1].rows, 1, "scores");
  Buffer d_scores(ops, ops.master_dtype(), in[1].rows, 1, "d_scores");
  Integers rows(ops, index);
  d_gate.set(in[0]);
  scores.set(in[1]);
  d_scores.set(in[2]);
  for (int time = 0; time < 2; ++time)
    ops.router_gate_backward(d_gate.tensor(), scores.tensor(), rows.data(), activation, kAlpha, d_scores.tensor());
  return {d_scores.get()};
}

std::vector<int32_t> every_third(int64_t p) {
  std::vector<int32_t> index;
  for (int32_t i = 0; i < p; i += 3) index.push_back(i);
  return index;
}

TEST(RouterGate, ReferenceGradientIsTheComplexStep) {
  for (Activation activation : {Activation::sigmoid, Activation::tanh}) {
    const std::vector<int32_t> index = {4, 0, 2};
    const Array scores = random_array(5, 1, 1), loss = random_array(3, 1, 2);
    RefOps<double> ops;
    const Arrays twice = backward_twice(ops, {loss, scores, Array(5, 1)}, index, activation);
    expect_reference_gradient(
        [&](Ops& c, const Arrays& in, const Step& step) { return forward(c, in, index, activation, step); }, {scores},
        {loss}, {halved(twice[0])}, {0});
  }
}

TEST(RouterGate, MatchesReference) {
  for (Activation activation : {Activation::sigmoid, Activation::tanh})
    for (int64_t p : {0, 1, 5, 3000}) {
      const std::vector<int32_t> index = every_third(p);
      const auto r = static_cast<int64_t>(index.size());
      compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, index, activation, {}); },
                             {random_array(p, 1, 3, 4)}, {false}, {false});
      compare_with_reference([&](Ops& ops, const Arrays& in) { return backward_twice(ops, in, index, activation); },
                             {random_array(r, 1, 4), random_array(p, 1, 5, 4), random_array(p, 1, 6)},
                             {false, false, false}, {false});
    }
}

TEST(RouterGate, WithoutIndexRowsAreTheirOwn) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    Buffer scores(*ops, DType::float32, 3, 1, "scores"), gate(*ops, DType::float32, 3, 1, "gate");
    scores.set(Array(3, 1, 0));
    ops->router_gate_forward(scores.tensor(), nullptr, Activation::sigmoid, 0.5, gate.tensor());
    for (double g : gate.get().values) EXPECT_EQ(g, 0.25);
  }
}

TEST(RouterGate, SoftmaxOfOneScoreIsAnError) {
  expect_invalid(
      [](Ops& ops) {
        Buffer scores(ops, ops.master_dtype(), 3, 1, "scores");
        ops.router_gate_forward(scores.tensor(), nullptr, Activation::softmax, 0.1, scores.tensor());
      },
      "router_gate: softmax needs several scores a row; use sigmoid or tanh");
}

}  // namespace
}  // namespace mor::test
