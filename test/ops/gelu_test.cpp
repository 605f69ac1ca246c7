// Tests of gelu: the reference against the complex step, and every device against the reference.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// inputs: x. outputs: y.
Arrays forward(Ops& ops, const Arrays& in, const Step& step) {
  Buffer x(ops, ops.compute_dtype(), in[0].rows, in[0].columns, "x");
  Buffer y(ops, ops.compute_dtype(), in[0].rows, in[0].columns, "y");
  fill(x, in[0], 0, step);
  ops.gelu_forward(x.tensor(), y.tensor());
  return {read(y, step)};
}

/// inputs: d_y, x. outputs: d_x, which the second run overwrites.
Arrays backward_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, n = in[0].columns;
  Buffer d_y(ops, ops.compute_dtype(), rows, n, "d_y"), x(ops, ops.compute_dtype(), rows, n, "x");
  Buffer d_x(ops, ops.compute_dtype(), rows, n, "d_x", apart(n, 5));
  d_y.set(in[0]);
  x.set(in[1]);
  for (int time = 0; time < 2; ++time) ops.gelu_backward(d_y.tensor(), x.tensor(), d_x.tensor());
  return {d_x.get()};
}

TEST(Gelu, ReferenceGradientIsTheComplexStep) {
  const Array x = random_array(3, 7, 1, 2.0), loss = random_array(3, 7, 2);
  RefOps<double> ops;
  expect_reference_gradient(forward, {x}, {loss}, backward_twice(ops, {loss, x}), {0});
}

TEST(Gelu, KnownValues) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Array x(1, 4);
    x(0, 1) = 1;
    x(0, 2) = -1;
    x(0, 3) = 50;
    const Array y = forward(*ops, {x}, {})[0];
    const double unit = subject.compute == DType::bfloat16 ? 1.0 / 256 : 1e-6;
    EXPECT_NEAR(y(0, 0), 0, unit);
    EXPECT_NEAR(y(0, 1), 0.8413447460685429, unit);
    EXPECT_NEAR(y(0, 2), -0.15865525393145707, unit);
    EXPECT_EQ(y(0, 3), 50);
  }
}

TEST(Gelu, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 64})
    for (int64_t n : {1, 15, 64, 769}) {
      const Array x = random_array(rows, n, 3, 2.0);
      compare_with_reference(plainly(forward), {x}, {true}, {true});
      compare_with_reference(backward_twice, {random_array(rows, n, 4), x}, {true, true}, {true});
    }
}

TEST(Gelu, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 2, 9, "x"), y(ops, ops.compute_dtype(), 2, 8, "y");
        ops.gelu_forward(x.tensor(), y.tensor());
      },
      "gelu_forward: x is 2 x 9, but 2 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
