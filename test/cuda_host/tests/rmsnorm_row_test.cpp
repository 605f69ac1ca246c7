// rmsnorm over rows that are longer than a warp or a block keeps in registers.
#include "test/ops/harness.h"

namespace mor::test {
namespace {

/// inputs: x [R,d], weight [1,d], d_y [R,d]. outputs: y, rstd, d_packed, d_weight.
Arrays run(Ops& ops, const Arrays& in) {
  const DType dtype = ops.compute_dtype();
  const int64_t rows = in[0].rows, d = in[0].columns;
  Buffer x(ops, dtype, rows, d, "x"), weight(ops, dtype, 1, d, "weight"), y(ops, dtype, rows, d, "y");
  Buffer rstd(ops, ops.master_dtype(), rows, 1, "rstd"), d_y(ops, dtype, rows, d, "d_y");
  Buffer d_x(ops, dtype, rows, d, "d_x"), d_weight(ops, ops.master_dtype(), 1, d, "d_weight");
  x.set(in[0]);
  weight.set(in[1]);
  d_y.set(in[2]);
  d_x.set(in[0]);
  d_weight.set(in[1]);
  ops.rmsnorm_forward(x.tensor(), nullptr, weight.tensor(), 1e-5, {}, y.tensor(), rstd.tensor());
  ops.rmsnorm_backward(d_y.tensor(), x.tensor(), weight.tensor(), rstd.tensor(), d_x.tensor(), d_weight.tensor());
  return {y.get(), rstd.get(), d_x.get(), d_weight.get()};
}

TEST(RmsnormRow, LongRowsMatchReference) {
  for (int64_t d : {2100, 2304}) {
    SCOPED_TRACE(concat("d ", d));
    compare_with_reference(run, {random_array(3, d, 1), random_array(1, d, 2), random_array(3, d, 3)},
                           {true, true, true}, {true, false, true, false});
  }
}

}  // namespace
}  // namespace mor::test
