// Tests of rmsnorm: the reference against the complex step, and every device against the reference.
#include "ops/checks/rmsnorm.h"

#include "test/ops/harness.h"

namespace mor::test {
namespace {

constexpr double kEpsilon = 1e-5;

/// inputs: x [M,d], weight [1,d]. outputs: packed, y, rstd.
Arrays forward(Ops& ops, const Arrays& in, const std::vector<int32_t>& source) {
  const int64_t rows = static_cast<int64_t>(source.size()), d = in[0].columns;
  Buffer x(ops, ops.compute_dtype(), in[0].rows, d, "x"), weight(ops, ops.compute_dtype(), 1, d, "weight");
  Buffer packed(ops, ops.compute_dtype(), rows, d, "packed"), y(ops, ops.compute_dtype(), rows, d, "y");
  Buffer rstd(ops, ops.master_dtype(), rows, 1, "rstd");
  Integers index(ops, source);
  x.set(in[0]);
  weight.set(in[1]);
  ops.rmsnorm_forward(x.tensor(), index.data(), weight.tensor(), kEpsilon, packed.tensor(), y.tensor(), rstd.tensor());
  return {packed.get(), y.get(), rstd.get()};
}

/// inputs: d_y [R,d], packed [R,d], weight [1,d], start values of d_packed and d_weight. The backward runs twice
/// into the same buffers.
Arrays backward_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, d = in[0].columns;
  Buffer d_y(ops, ops.compute_dtype(), rows, d, "d_y"), packed(ops, ops.compute_dtype(), rows, d, "packed");
  Buffer weight(ops, ops.compute_dtype(), 1, d, "weight"), y(ops, ops.compute_dtype(), rows, d, "y");
  Buffer rstd(ops, ops.master_dtype(), rows, 1, "rstd"), d_packed(ops, ops.compute_dtype(), rows, d, "d_packed");
  Buffer d_weight(ops, ops.master_dtype(), 1, d, "d_weight");
  d_y.set(in[0]);
  packed.set(in[1]);
  weight.set(in[2]);
  d_packed.set(in[3]);
  d_weight.set(in[4]);
  ops.rmsnorm_forward(packed.tensor(), nullptr, weight.tensor(), kEpsilon, {}, y.tensor(), rstd.tensor());
  for (int time = 0; time < 2; ++time)
    ops.rmsnorm_backward(d_y.tensor(), packed.tensor(), weight.tensor(), rstd.tensor(), d_packed.tensor(),
                         d_weight.tensor());
  return {d_packed.get(), d_weight.get()};
}

std::vector<int32_t> every_other_row(int64_t m) {
  std::vector<int32_t> source;
  for (int32_t i = static_cast<int32_t>(m) - 1; i >= 0; i -= 2) source.push_back(i);
  return source;
}

TEST(Rmsnorm, ReferenceGradientIsTheComplexStep) {
  const Array x = random_array(3, 7, 1), weight = random_array(1, 7, 2), loss = random_array(3, 7, 3);
  RefOps<double> ops;
  const Arrays twice = backward_twice(ops, {loss, x, weight, Array(3, 7), Array(1, 7)});
  Arrays gradients = twice;
  for (Array& g : gradients)
    for (double& value : g.values) value /= 2;
  const PerturbedForward perturbed = [](RefOps<Complex>& c, const Arrays& in, const Step& step) -> Arrays {
    Buffer x(c, DType::complex128, 3, 7, "x"), w(c, DType::complex128, 1, 7, "w"), y(c, DType::complex128, 3, 7, "y");
    x.set(in[0]);
    w.set(in[1]);
    (step.input == 0 ? x : w).add_imaginary(step.i, step.j, step.h);
    c.rmsnorm_forward(x.tensor(), nullptr, w.tensor(), kEpsilon, {}, y.tensor(), {});
    return {y.get_imaginary()};
  };
  expect_complex_step_gradient(perturbed, {x, weight}, {loss}, gradients, {0, 1});
}

TEST(Rmsnorm, ForwardMatchesReference) {
  for (int64_t rows : {0, 1, 5, 64})
    for (int64_t d : {1, 15, 64, 576}) {
      const std::vector<int32_t> source = every_other_row(rows);
      compare_with_reference([&](Ops& ops, const Arrays& in) { return forward(ops, in, source); },
                             {random_array(rows, d, 4), random_array(1, d, 5)}, {true, true}, {true, true, false});
    }
}

TEST(Rmsnorm, BackwardAccumulatesAndMatchesReference) {
  for (int64_t rows : {0, 1, 5, 100})
    for (int64_t d : {1, 15, 64, 576})
      compare_with_reference(backward_twice,
                             {random_array(rows, d, 6), random_array(rows, d, 7), random_array(1, d, 8),
                              random_array(rows, d, 9), random_array(1, d, 10)},
                             {true, true, true, true, false}, {true, false});
}

TEST(Rmsnorm, WrongShapesAreNamed) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    Buffer x(*ops, subject.compute, 2, 8, "x"), weight(*ops, subject.compute, 1, 7, "weight");
    try {
      ops->rmsnorm_forward(x.tensor(), nullptr, weight.tensor(), kEpsilon, {}, x.tensor(), {});
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
      EXPECT_STREQ(error.what(), "rmsnorm_forward: weight has 7 elements, but 8 are needed");
    }
  }
}

}  // namespace
}  // namespace mor::test
