// Tests of linear: the reference against the complex step, every device against the reference, and float32 rows alone
// against the same rows in a batch, bit for bit.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

enum class Residual { none, other, output };

struct Form {
  Residual residual = Residual::none;
  bool master = false;  ///< y in the master dtype
  int64_t wider = 0;    ///< elements between the rows of every operand
};

DType output_dtype(const Ops& ops, const Form& form) {
  return form.master ? ops.master_dtype() : ops.compute_dtype();
}

/// inputs: x [R,k], weight [n,k], residual [R,n]. outputs: y.
Forward forward(const Form& form) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const DType compute = ops.compute_dtype();
    const int64_t rows = in[0].rows, k = in[0].columns, n = in[1].rows;
    Buffer x(ops, compute, rows, k, "x", k + form.wider), weight(ops, compute, n, k, "weight", k + form.wider);
    Buffer y(ops, output_dtype(ops, form), rows, n, "y", n + form.wider);
    Buffer other(ops, compute, rows, n, "residual", n + form.wider);
    fill(x, in[0], 0, step);
    fill(weight, in[1], 1, step);
    if (form.residual != Residual::none) fill(form.residual == Residual::output ? y : other, in[2], 2, step);
    const Tensor residual = form.residual == Residual::none    ? Tensor{}
                            : form.residual == Residual::other ? other.tensor()
                                                               : y.tensor();
    ops.linear_forward(x.tensor(), weight.tensor(), residual, y.tensor());
    return {read(y, step)};
  };
}

/// inputs: d_y [R,n], x [R,k], weight [n,k], start value of d_weight. outputs: d_x of the second call, and d_weight
/// after two calls.
OpCall backward_twice(int64_t wider) {
  return [=](Ops& ops, const Arrays& in) -> Arrays {
    const DType compute = ops.compute_dtype();
    const int64_t rows = in[0].rows, n = in[0].columns, k = in[1].columns;
    Buffer d_y(ops, compute, rows, n, "d_y", n + wider), x(ops, compute, rows, k, "x", k + wider);
    Buffer weight(ops, compute, n, k, "weight", k + wider), d_x(ops, compute, rows, k, "d_x", k + wider);
    Buffer d_weight(ops, ops.master_dtype(), n, k, "d_weight");
    d_y.set(in[0]);
    x.set(in[1]);
    weight.set(in[2]);
    d_weight.set(in[3]);
    for (int time = 0; time < 2; ++time) {
      ops.linear_backward_input(d_y.tensor(), weight.tensor(), d_x.tensor());
      ops.linear_backward_weight(d_y.tensor(), x.tensor(), d_weight.tensor());
    }
    return {d_x.get(), d_weight.get()};
  };
}

struct Extents {
  int64_t rows, k, n;
};

/// Full and partial blocks of every kernel, and row counts below and above every threshold between kernels.
std::vector<Extents> small_extents() {
  std::vector<Extents> list;
  for (int64_t rows : {0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 37, 70, 96, 97})
    for (const auto& [k, n] : {std::pair<int64_t, int64_t>{1, 1}, {15, 33}, {64, 64}, {100, 16}})
      list.push_back({rows, k, n});
  return list;
}
/// Enough work for several threads, more rows than a panel holds, and inner extents that are summed or packed in
/// stretches.
std::vector<Extents> large_extents() {
  return {{300, 576, 200}, {3, 1536, 576},  {96, 1401, 50}, {1100, 33, 96},
          {100, 2100, 48}, {130, 40, 2100}, {2100, 64, 33}};
}

TEST(Linear, ReferenceGradientIsTheComplexStep) {
  const Array x = random_array(3, 5, 1), weight = random_array(4, 5, 2), loss = random_array(3, 4, 3);
  RefOps<double> ops;
  const Arrays gradient = backward_twice(0)(ops, {loss, x, weight, Array(4, 5)});
  for (Residual residual : {Residual::none, Residual::other, Residual::output}) {
    Form form;
    form.residual = residual;
    expect_reference_gradient(forward(form), {x, weight, random_array(3, 4, 4)}, {loss},
                              {gradient[0], halved(gradient[1])}, {0, 1});
  }
}

void expect_forward(const Extents& e, const Form& form) {
  SCOPED_TRACE(concat(e.rows, " rows, k ", e.k, ", n ", e.n, ", residual ", static_cast<int>(form.residual),
                      ", master ", form.master, ", wider ", form.wider));
  compare_with_reference(plainly(forward(form)),
                         {random_array(e.rows, e.k, 5), random_array(e.n, e.k, 6), random_array(e.rows, e.n, 7)},
                         {true, true, true}, {!form.master});
}

void expect_backward(const Extents& e, int64_t wider) {
  SCOPED_TRACE(concat(e.rows, " rows, k ", e.k, ", n ", e.n, ", wider ", wider));
  compare_with_reference(backward_twice(wider),
                         {random_array(e.rows, e.n, 8), random_array(e.rows, e.k, 9), random_array(e.n, e.k, 10),
                          random_array(e.n, e.k, 11)},
                         {true, true, true, false}, {true, false});
}

TEST(Linear, ForwardMatchesReference) {
  for (const Extents& e : small_extents())
    for (const Form& form :
         {Form{Residual::none, false, 0}, Form{Residual::none, true, 3}, Form{Residual::other, false, 8},
          Form{Residual::other, true, 0}, Form{Residual::output, false, 3}, Form{Residual::output, false, 0}})
      expect_forward(e, form);
  for (const Extents& e : large_extents())
    for (const Form& form : {Form{Residual::none, true, 0}, Form{Residual::output, false, 8}}) expect_forward(e, form);
}

TEST(Linear, BackwardMatchesReference) {
  for (const Extents& e : small_extents())
    for (int64_t wider : {0, 3}) expect_backward(e, wider);
  for (const Extents& e : large_extents()) expect_backward(e, 8);
}

TEST(Linear, Float32RowDoesNotDependOnItsNeighbours) {
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (const auto& [k, n] : {std::pair<int64_t, int64_t>{100, 37}, {576, 130}}) {
      const Array x = random_array(37, k, 12), weight = random_array(n, k, 13), residual = random_array(37, n, 14);
      const Array together = forward({Residual::other})(*ops, {x, weight, residual}, {})[0];
      for (int64_t row = 0; row < 37; ++row) {
        Array alone_x(1, k), alone_residual(1, n);
        for (int64_t j = 0; j < k; ++j) alone_x(0, j) = x(row, j);
        for (int64_t j = 0; j < n; ++j) alone_residual(0, j) = residual(row, j);
        const Array alone = forward({Residual::other})(*ops, {alone_x, weight, alone_residual}, {})[0];
        for (int64_t j = 0; j < n; ++j) ASSERT_EQ(alone(0, j), together(row, j)) << "row " << row << ", column " << j;
      }
    }
  }
}

TEST(Linear, ResidualOfOneRowIsAddedToEveryRow) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (const auto& [rows, k, n] : {Extents{1, 64, 64}, {5, 100, 16}, {37, 15, 33}, {300, 2100, 48}}) {
      const Array x = random_array(rows, k, 15), weight = random_array(n, k, 16), bias = random_array(n, 1, 17);
      Array residual(rows, n);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < n; ++j) residual(i, j) = bias(j);
      Buffer left(*ops, subject.compute, rows, k, "x"), right(*ops, subject.compute, n, k, "weight");
      Buffer row(*ops, subject.compute, n, 1, "bias"), y(*ops, subject.compute, rows, n, "y");
      left.set(x);
      right.set(weight);
      row.set(bias);
      ops->linear_forward(left.tensor(), right.tensor(), row.tensor().repeated(rows), y.tensor());
      EXPECT_EQ(y.get().values, forward({Residual::other})(*ops, {x, weight, residual}, {})[0].values);
    }
  }
}

TEST(Linear, SameInputsGiveTheSameBits) {
  const Arrays in = {random_array(70, 130, 15), random_array(70, 100, 16), random_array(130, 100, 17), Array(130, 100)};
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> first = subject.make(), second = subject.make();
    const Arrays a = backward_twice(0)(*first, in), b = backward_twice(0)(*second, in);
    EXPECT_EQ(a[0].values, b[0].values);
    EXPECT_EQ(a[1].values, b[1].values);
  }
}

TEST(Linear, ManyShapesOneAfterAnother) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    for (int64_t rows = 1; rows <= 140; ++rows) {
      const Array d_y(rows, 2, 0.5), x(rows, 1, 2.0), weight(2, 1, 3.0);
      const Arrays gradient = backward_twice(0)(*ops, {d_y, x, weight, Array(2, 1)});
      ASSERT_EQ(gradient[0](rows - 1, 0), 3.0);
      ASSERT_EQ(gradient[1](1, 0), 2.0 * static_cast<double>(rows));
    }
  }
}

TEST(Linear, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 2, 8, "x"), weight(ops, ops.compute_dtype(), 4, 7, "weight");
        Buffer y(ops, ops.compute_dtype(), 2, 4, "y");
        ops.linear_forward(x.tensor(), weight.tensor(), {}, y.tensor());
      },
      "linear_forward: weight is 4 x 7, but 4 x 8 is needed");
  expect_invalid(
      [](Ops& ops) {
        Buffer d_y(ops, ops.compute_dtype(), 2, 4, "d_y"), weight(ops, ops.compute_dtype(), 4, 8, "weight");
        Buffer d_x(ops, ops.compute_dtype(), 3, 8, "d_x");
        ops.linear_backward_input(d_y.tensor(), weight.tensor(), d_x.tensor());
      },
      "linear_backward_input: d_y is 2 x 4, but 3 x 4 is needed");
  expect_invalid(
      [](Ops& ops) {
        Buffer d_y(ops, ops.compute_dtype(), 2, 4, "d_y"), x(ops, ops.compute_dtype(), 2, 8, "x");
        Buffer d_weight(ops, ops.master_dtype(), 4, 9, "d_weight");
        ops.linear_backward_weight(d_y.tensor(), x.tensor(), d_weight.tensor());
      },
      "linear_backward_weight: d_weight is 4 x 9, but 4 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
