// Tests of gather_rows, add_rows, scatter_gated and cast: the reference against the complex step, and every device
// against the reference.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// n distinct rows out of `of`, in falling order.
std::vector<int32_t> falling(int64_t n, int64_t of) {
  std::vector<int32_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(static_cast<int32_t>(of - 1 - i));
  return index;
}

/// inputs: x [M,d]. outputs: y [R,d]. source is null when R = M.
Forward gather(int64_t rows) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const int64_t m = in[0].rows, d = in[0].columns;
    Buffer x(ops, ops.compute_dtype(), m, d, "x"), y(ops, ops.compute_dtype(), rows, d, "y", apart(d, 1));
    Integers source(ops, falling(rows, m));
    fill(x, in[0], 0, step);
    ops.gather_rows(x.tensor(), rows == m ? nullptr : source.data(), y.tensor());
    return {read(y, step)};
  };
}

/// inputs: x [R,d], start value of y [M,d]. outputs: y after two calls. source is null when R = M.
Arrays add_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, m = in[1].rows, d = in[0].columns;
  Buffer x(ops, ops.compute_dtype(), rows, d, "x"), y(ops, ops.compute_dtype(), m, d, "y", apart(d, 1));
  Integers source(ops, falling(rows, m));
  x.set(in[0]);
  y.set(in[1]);
  for (int time = 0; time < 2; ++time) ops.add_rows(x.tensor(), rows == m ? nullptr : source.data(), y.tensor());
  return {y.get()};
}

/// inputs: x [R,d], gate [n,1], stream [M,d]. `from` is null when n = R. outputs: stream.
Arrays scatter(Ops& ops, const Arrays& in, const Step& step) {
  const int64_t rows = in[0].rows, n = in[1].rows, m = in[2].rows, d = in[0].columns;
  Buffer x(ops, ops.compute_dtype(), rows, d, "x"), stream(ops, ops.compute_dtype(), m, d, "stream", apart(d, 1));
  Buffer gate(ops, ops.master_dtype(), n, 1, "gate");
  Integers from(ops, falling(n, rows)), to(ops, falling(n, m));
  fill(x, in[0], 0, step);
  fill(gate, in[1], 1, step);
  fill(stream, in[2], 2, step);
  ops.scatter_gated_forward(x.tensor(), n == rows ? nullptr : from.data(), gate.tensor(), to.data(), stream.tensor());
  return {read(stream, step)};
}

/// inputs: x, gate, d_stream, start value of d_x. outputs: d_x, d_gate.
Arrays scatter_backward_twice(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, n = in[1].rows, m = in[2].rows, d = in[0].columns;
  Buffer x(ops, ops.compute_dtype(), rows, d, "x"), d_stream(ops, ops.compute_dtype(), m, d, "d_stream");
  Buffer d_x(ops, ops.compute_dtype(), rows, d, "d_x"), gate(ops, ops.master_dtype(), n, 1, "gate");
  Buffer d_gate(ops, ops.master_dtype(), n, 1, "d_gate");
  Integers from(ops, falling(n, rows)), to(ops, falling(n, m));
  x.set(in[0]);
  gate.set(in[1]);
  d_stream.set(in[2]);
  d_x.set(in[3]);
  for (int time = 0; time < 2; ++time)
    ops.scatter_gated_backward(d_stream.tensor(), to.data(), x.tensor(), n == rows ? nullptr : from.data(),
                               gate.tensor(), d_x.tensor(), d_gate.tensor());
  return {d_x.get(), d_gate.get()};
}

TEST(GatherRows, GradientIsAddRows) {
  const Array x = random_array(5, 3, 1), loss = random_array(2, 3, 2);
  RefOps<double> ops;
  expect_reference_gradient(gather(2), {x}, {loss}, {halved(add_twice(ops, {loss, Array(5, 3)})[0])}, {0});
}

TEST(GatherRows, MatchesReference) {
  for (int64_t m : {0, 1, 7, 200})
    for (int64_t d : {1, 15, 64, 577})
      for (int64_t rows : {m / 2, m}) {
        compare_with_reference(plainly(gather(rows)), {random_array(m, d, 3)}, {true}, {true});
        compare_with_reference(add_twice, {random_array(rows, d, 4), random_array(m, d, 5)}, {true, true}, {true});
      }
}

TEST(GatherRows, TakesTheMasterDtypeToo) {
  const OpCall scalars = [](Ops& ops, const Arrays& in) -> Arrays {
    Buffer x(ops, ops.master_dtype(), 5, 1, "x"), y(ops, ops.master_dtype(), 3, 1, "y");
    Integers index(ops, {4, 0, 3});
    x.set(in[0]);
    ops.gather_rows(x.tensor(), index.data(), y.tensor());
    ops.add_rows(y.tensor(), index.data(), x.tensor());
    return {y.get(), x.get()};
  };
  compare_with_reference(scalars, {random_array(5, 1, 21)}, {false}, {false, false});
}

TEST(ScatterGated, ReferenceGradientIsTheComplexStep) {
  const Array loss = random_array(6, 4, 6);
  for (int64_t rows : {3, 5}) {  // there are 3 gates: `from` is null first, then it is not
    const Arrays in = {random_array(rows, 4, 7), random_array(3, 1, 8), random_array(6, 4, 9)};
    RefOps<double> ops;
    expect_reference_gradient(scatter, in, {loss}, scatter_backward_twice(ops, {in[0], in[1], loss, Array(rows, 4)}),
                              {0, 1});
  }
}

TEST(ScatterGated, MatchesReferenceAndLeavesOtherRows) {
  for (int64_t n : {0, 1, 5, 100})
    for (int64_t d : {1, 15, 64, 577})
      for (int64_t rows : {n, n + 2}) {
        const Array x = random_array(rows, d, 10), gate = random_array(n, 1, 11), stream = random_array(n + 3, d, 12);
        compare_with_reference(plainly(scatter), {x, gate, stream}, {true, false, true}, {true});
        compare_with_reference(scatter_backward_twice, {x, gate, stream, random_array(rows, d, 13)},
                               {true, false, true, true}, {true, false});
      }
}

/// inputs: gate [n,1], stream [n,d]. outputs: the stream after its own rows were added to it, `from` and `to` being
/// null, and once more with both in falling order.
Arrays scatter_onto_itself(Ops& ops, const Arrays& in) {
  const int64_t n = in[0].rows, d = in[1].columns;
  Buffer stream(ops, ops.compute_dtype(), n, d, "stream", apart(d, 1)), gate(ops, ops.master_dtype(), n, 1, "gate");
  Integers to(ops, falling(n, n));
  gate.set(in[0]);
  stream.set(in[1]);
  ops.scatter_gated_forward(stream.tensor(), nullptr, gate.tensor(), nullptr, stream.tensor());
  ops.scatter_gated_forward(stream.tensor(), to.data(), gate.tensor(), to.data(), stream.tensor());
  return {stream.get()};
}

TEST(ScatterGated, MayAddRowsToThemselves) {
  for (int64_t n : {0, 1, 5, 100})
    for (int64_t d : {1, 15, 64, 577})
      compare_with_reference(scatter_onto_itself, {random_array(n, 1, 15), random_array(n, d, 16)}, {false, true},
                             {true});
}

TEST(ScatterGated, OfMinusOneLeavesNothing) {
  for (const TestDevice& device : test_devices(DType::bfloat16)) {
    const std::unique_ptr<Ops> ops = device.make(DType::bfloat16);
    Array minus_one(5, 1);
    minus_one.values.assign(5, -1);
    Buffer stream(*ops, DType::bfloat16, 5, 33, "stream"), gate(*ops, ops->master_dtype(), 5, 1, "gate");
    gate.set(minus_one);
    stream.set(random_array(5, 33, 17));
    ops->scatter_gated_forward(stream.tensor(), nullptr, gate.tensor(), nullptr, stream.tensor());
    EXPECT_EQ(stream.get().values, Array(5, 33).values) << device.name;
  }
}

TEST(Cast, RoundsToNearestEvenAndBack) {
  for (int64_t columns : {1, 15, 64, 577})
    compare_with_reference(
        [](Ops& ops, const Arrays& in) -> Arrays {
          const int64_t rows = in[0].rows, n = in[0].columns;
          Buffer wide(ops, ops.master_dtype(), rows, n, "wide"),
              half(ops, DType::bfloat16, rows, n, "half", apart(n, 2));
          Buffer back(ops, DType::float32, rows, n, "back");
          wide.set(in[0]);
          ops.cast(wide.tensor(), half.tensor());
          ops.cast(half.tensor(), back.tensor());
          EXPECT_EQ(back.get().values, rounded(in[0], DType::bfloat16).values);
          return {half.get(), back.get()};
        },
        {random_array(9, columns, 14)}, {false}, {true, true});
}

TEST(Rows, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 3, 7, "x"), y(ops, ops.compute_dtype(), 2, 7, "y");
        ops.gather_rows(x.tensor(), nullptr, y.tensor());
      },
      "gather_rows: x is 3 x 7, but 2 x 7 is needed");
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 3, 7, "x"), stream(ops, ops.compute_dtype(), 4, 8, "stream");
        Buffer gate(ops, ops.master_dtype(), 3, 1, "gate");
        Integers to(ops, {0, 1, 2});
        ops.scatter_gated_forward(x.tensor(), nullptr, gate.tensor(), to.data(), stream.tensor());
      },
      "scatter_gated_forward: x is 3 x 7, but 3 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
