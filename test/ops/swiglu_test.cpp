// Tests of swiglu: the reference against the complex step, every device against the reference, rows against the same
// rows elsewhere, and what is kept against what is not.
#include "test/ops/swiglu_forms.h"

namespace mor::test {
namespace {

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

/// As a weight it makes x itself gate_up.
Array identity(int64_t n) {
  Array weight(n, n);
  for (int64_t i = 0; i < n; ++i) weight(i, i) = 1;
  return weight;
}

/// With the identity as the weight x is gate_up, so the gradient of x must be what the backward computes.
TEST(Swiglu, ReferenceGradientIsTheComplexStep) {
  const Array gate_up = random_array(3, 10, 1), loss = random_array(3, 5, 2);
  RefOps<double> ops;
  expect_reference_gradient(swiglu_forward({false}), {gate_up, identity(10)}, {loss},
                            backward_twice(ops, {loss, gate_up}), {0});
}

TEST(Swiglu, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 17, 70})
    for (const auto& [d, f] : {std::pair<int64_t, int64_t>{1, 1}, {15, 33}, {64, 64}, {100, 13}, {40, 769}})
      for (const SwigluForm& form : {SwigluForm{true, 0}, SwigluForm{false, 0}, SwigluForm{false, 3}}) {
        SCOPED_TRACE(concat(rows, " rows, d ", d, ", f ", f, form.keeps ? ", kept" : "", ", gap ", form.gap));
        expect_swiglu(plainly(swiglu_forward(form)), random_array(rows, d, 3), random_array(2 * f, d, 4), form.keeps);
      }
}

TEST(Swiglu, BackwardMatchesReference) {
  for (int64_t rows : {0, 1, 5, 64})
    for (int64_t f : {1, 15, 64, 769})
      compare_with_reference(backward_twice, {random_array(rows, f, 5), random_array(rows, 2 * f, 6, 3.0)},
                             {true, true}, {true});
}

/// The formula itself, in double, from the gates and ups that were kept.
TEST(Swiglu, OutIsSiluOfTheGateTimesUp) {
  const Array x = random_array(9, 20, 7), weight = random_array(66, 20, 8);
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const double relative = subject.compute == DType::bfloat16 ? 0x1p-8 : 0x1p-20;
    const Arrays kept = swiglu_forward({true})(*subject.make(), {x, weight}, {});
    const Array expected = silu_times_up<double>(kept[1]);
    for (size_t i = 0; i < expected.values.size(); ++i)
      ASSERT_NEAR(kept[0].values[i], expected.values[i], relative * std::abs(expected.values[i]) + 1e-30) << i;
  }
}

TEST(Swiglu, KeptOrNotGivesTheBits) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (const int64_t rows : {1, 16, 40, 150})
      for (const auto& [d, f] : {std::pair<int64_t, int64_t>{64, 72}, {75, 37}}) {
        const Arrays in = {random_array(rows, d, 9), random_array(2 * f, d, 10)};
        EXPECT_EQ(swiglu_forward({false})(*ops, in, {})[0].values, swiglu_forward({true})(*ops, in, {})[0].values)
            << rows << " rows, d " << d << ", f " << f;
      }
  }
}

TEST(Swiglu, Float32RowDoesNotDependOnItsNeighbours) {
  const int64_t rows = 37, d = 100, f = 37;
  const Array x = random_array(rows, d, 11), weight = random_array(2 * f, d, 12);
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Array together = swiglu_forward({false})(*ops, {x, weight}, {})[0];
    for (int64_t row = 0; row < rows; ++row) {
      Array of_row(1, d);
      std::copy_n(x.values.begin() + row * d, d, of_row.values.begin());
      const Array alone = swiglu_forward({false})(*ops, {of_row, weight}, {})[0];
      for (int64_t j = 0; j < f; ++j) ASSERT_EQ(alone(0, j), together(row, j)) << "row " << row << ", feature " << j;
    }
  }
}

TEST(Swiglu, LargeGatesSaturate) {
  Array weight(4, 1, 2.0);
  weight(0, 0) = -1e30;
  weight(1, 0) = 1e30;
  for (const Subject& subject : subjects())
    for (const bool keeps : {false, true}) {
      SCOPED_TRACE(subject.name);
      const std::unique_ptr<Ops> ops = subject.make();
      const Array out = swiglu_forward({keeps})(*ops, {Array(1, 1, 1.0), weight}, {})[0];
      EXPECT_NEAR(out(0, 0), 0, 1e-3);
      EXPECT_NEAR(out(0, 1) / 2e30, 1, 0.01);
    }
}

TEST(Swiglu, WrongShapesAreNamed) {
  const auto call = [](int64_t weight_rows, int64_t kept_columns) {
    return [=](Ops& ops) {
      const DType compute = ops.compute_dtype();
      const Buffer x(ops, compute, 2, 3, "x"), weight(ops, compute, weight_rows, 3, "weight");
      const Buffer gate_up(ops, compute, 2, kept_columns, "gate_up"), out(ops, compute, 2, 4, "out");
      ops.swiglu_forward(x.tensor(), weight.tensor(), gate_up.tensor(), out.tensor());
    };
  };
  expect_invalid(call(9, 8), "swiglu_forward: weight is 9 x 3, but 8 x 3 is needed");
  expect_invalid(call(8, 9), "swiglu_forward: gate_up is 2 x 9, but 2 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
