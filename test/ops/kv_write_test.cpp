// Tests of kv_write: the reference against the complex step, and every device against the reference.
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// Distinct slots in falling order; every second slot is left out.
std::vector<int32_t> slots_of(int64_t rows) {
  std::vector<int32_t> slot;
  for (int64_t i = 0; i < rows; ++i) slot.push_back(static_cast<int32_t>(2 * (rows - i) - 1));
  return slot;
}

/// inputs: x [R,n] (columns of a wider buffer), cache [2R+1,n]. outputs: cache.
Arrays forward(Ops& ops, const Arrays& in, const Step& step) {
  const int64_t rows = in[0].rows, n = in[0].columns;
  Buffer x(ops, ops.compute_dtype(), rows, n, "x", apart(n, 3)),
      cache(ops, ops.compute_dtype(), in[1].rows, n, "cache");
  Integers slot(ops, slots_of(rows));
  fill(x, in[0], 0, step);
  fill(cache, in[1], 1, step);
  ops.kv_write(x.tensor(), slot.data(), cache.tensor());
  return {read(cache, step)};
}

/// inputs: x (for its shape), d_cache. outputs: d_x, and d_cache with zeros in the slots that kv_write had overwritten.
Arrays backward(Ops& ops, const Arrays& in) {
  const int64_t rows = in[0].rows, n = in[0].columns;
  Buffer d_cache(ops, ops.compute_dtype(), in[1].rows, n, "d_cache"),
      d_x(ops, ops.compute_dtype(), rows, n, "d_x", apart(n, 3));
  Integers slot(ops, slots_of(rows));
  d_cache.set(in[1]);
  ops.kv_write_backward(d_cache.tensor(), slot.data(), d_x.tensor());
  return {d_x.get(), d_cache.get()};
}

TEST(KvWrite, ReferenceGradientIsTheComplexStep) {
  const Array x = random_array(3, 4, 1), cache = random_array(7, 4, 2), loss = random_array(7, 4, 3);
  RefOps<double> ops;
  // After the backward d_cache is the gradient of what the cache held before kv_write: zero where that was overwritten.
  expect_reference_gradient(forward, {x, cache}, {loss}, backward(ops, {x, loss}), {0, 1});
}

TEST(KvWrite, MatchesReference) {
  for (int64_t rows : {0, 1, 5, 200})
    for (int64_t n : {1, 15, 64, 193}) {
      const Array x = random_array(rows, n, 4), cache = random_array(2 * rows + 1, n, 5);
      compare_with_reference(plainly(forward), {x, cache}, {true, true}, {true});
      compare_with_reference(backward, {x, cache}, {true, true}, {true, true});
    }
}

TEST(KvWrite, WithoutSlotsRowIGoesToSlotI) {
  const OpCall there_and_back = [](Ops& ops, const Arrays& in) -> Arrays {
    Buffer x(ops, ops.compute_dtype(), 3, 20, "x"), cache(ops, ops.compute_dtype(), 4, 20, "cache");
    Buffer d_x(ops, ops.compute_dtype(), 3, 20, "d_x");
    x.set(in[0]);
    cache.set(in[1]);
    ops.kv_write(x.tensor(), nullptr, cache.tensor());
    const Array written = cache.get();
    ops.kv_write_backward(cache.tensor(), nullptr, d_x.tensor());
    return {written, cache.get(), d_x.get()};
  };
  compare_with_reference(there_and_back, {random_array(3, 20, 6), random_array(4, 20, 7)}, {true, true},
                         {true, true, true});
}

TEST(KvWrite, WrongShapesAreNamed) {
  expect_invalid(
      [](Ops& ops) {
        Buffer x(ops, ops.compute_dtype(), 2, 7, "x"), cache(ops, ops.compute_dtype(), 4, 8, "cache");
        Integers slot(ops, {0, 1});
        ops.kv_write(x.tensor(), slot.data(), cache.tensor());
      },
      "kv_write: x is 2 x 7, but 2 x 8 is needed");
}

}  // namespace
}  // namespace mor::test
