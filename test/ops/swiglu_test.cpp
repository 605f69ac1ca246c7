// Tests of swiglu: the reference against the complex step, and every device against the reference.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// inputs: gate_up [R,2f]. outputs: out.
Arrays forward(Ops& ops, const Arrays& in, const Step& step) {
  const int64_t rows = in[0].rows, f = in[0].columns / 2;
  Buffer gate_up(ops, ops.compute_dtype(), rows, 2 * f, "gate_up"), out(ops, ops.compute_dtype(), rows, f, "out");
  fill(gate_up, in[0], 0, step);
  ops.swiglu_forward(gate_up.tensor(), out.tensor());
  return {read(out, step)};
}

/// inputs: d_out [R,f], gate_up [R,2f]. outputs: d_gate_up, which the second run overwrites.
Arrays backward_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, f = in[0].columns;
  Buffer d_out(ops, ops.compute_dtype(), rows, f, "d_out"), gate_up(ops, ops.compute_dtype(), rows, 2 * f, "gate_up");
  Buffer d_gate_up(ops, ops.compute_dtype(), rows, 2 * f, "d_gate_up", apart(2 * f, 3));
  d_out.set(in[0]);
  gate_up.set(in[1]);
  for (int time = 0; time < 2; ++time) ops.swiglu_backward(d_out.tensor(), gate_up.tensor(), d_gate_up.tensor());
  return {d_gate_up.get()};
}

TEST(Swiglu, ReferenceGradientIsTheComplexStep) {
  const Array gate_up = random_array(3, 10, 1), loss = random_array(3, 5, 2);
  RefOps<double> ops;
  expect_reference_gradient(forward, {gate_up}, {loss}, backward_twice(ops, {loss, gate_up}), {0});
}

TEST(Swiglu, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 64})
    for (int64_t f : {1, 15, 64, 769}) {
      const Array gate_up = random_array(rows, 2 * f, 3, 3.0);
      compare_with_reference(plainly(forward), {gate_up}, {true}, {true});
      compare_with_reference(backward_twice, {random_array(rows, f, 4), gate_up}, {true, true}, {true});
    }
}

TEST(Swiglu, LargeGatesSaturate) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Array gate_up(1, 4, 2.0);
    gate_up(0, 0) = -1e30;
    gate_up(0, 1) = 1e30;
    const Array out = forward(*ops, {gate_up}, {})[0];
    EXPECT_NEAR(out(0, 0), 0, 1e-3);
    EXPECT_NEAR(out(0, 1) / 2e30, 1, 0.01);
  }
}

TEST(Swiglu, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer gate_up(ops, ops.compute_dtype(), 2, 9, "gate_up"), out(ops, ops.compute_dtype(), 2, 4, "out");
        ops.swiglu_forward(gate_up.tensor(), out.tensor());
      },
      "swiglu_forward: gate_up is 2 x 9, but 2 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
