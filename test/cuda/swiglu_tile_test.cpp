// swiglu in bf16 by every class of tiles that cp.async loads: whole and partial tiles against the reference, and rows,
// which get the same bits in every class, whether gate and up are kept or not.
#include "test/cuda/gpu.h"
#include "test/ops/swiglu_forms.h"

namespace mor::test {
namespace {

/// inputs: x [R,d], weight [2f,d].
Array activated(Ops& ops, const Array& x, const Array& weight, bool keeps) {
  const DType dtype = ops.compute_dtype();
  const int64_t rows = x.rows, d = x.columns, f = weight.rows / 2;
  Buffer left(ops, dtype, rows, d, "x", (d + 7) / 8 * 8), right(ops, dtype, 2 * f, d, "weight", (d + 7) / 8 * 8);
  const Buffer gate_up(ops, dtype, rows, 2 * f, "gate_up"), out(ops, dtype, rows, f, "out");
  left.set(x);
  right.set(weight);
  ops.swiglu_forward(left.tensor(), right.tensor(), keeps ? gate_up.tensor() : Tensor{}, out.tensor());
  return out.get();
}

void expect_activated(int64_t rows, int64_t d, int64_t f) {
  SCOPED_TRACE(concat(rows, " rows, d ", d, ", f ", f));
  expect_swiglu([](Ops& ops, const Arrays& in) -> Arrays { return {activated(ops, in[0], in[1], false)}; },
                random_array(rows, d, 1), random_array(2 * f, d, 2), false);
}

class SwigluTile : public EveryGpuTest {
 protected:
  /// Features whose products reach every class, not a multiple of 8: what one copy of TMA brings is not whole there.
  int64_t features() const { return columns_with_every_class(142, 20, gpu()) / 2; }
};

TEST_P(SwigluTile, MatchesReferenceInEveryClass) {
  for (const int64_t rows : {5, 16, 40, 64, 150})
    for (const auto& [d, f] : {std::pair<int64_t, int64_t>{8, 24}, {301, 37}, {136, 100}}) expect_activated(rows, d, f);
  for (const cuda::ProductClass wanted : product_classes(gpu()))
    expect_activated(rows_of(wanted, 2 * features(), gpu()), 24, features());
  expect_activated(128 * (gpu().multiprocessors + 1), 72, 72);  // a block computes several of Hopper's tiles
}

/// All rows in the largest class, then the last of them in every other class.
TEST_P(SwigluTile, RowsGetTheSameBitsInEveryClass) {
  const int64_t most = rows_of(product_classes(gpu()).back(), 2 * features(), gpu());
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::bfloat16) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Array x = random_array(most, 72, 3), weight = random_array(2 * features(), 72, 4);
    const Array all = activated(*ops, x, weight, true);
    for (const cuda::ProductClass wanted : product_classes(gpu())) {
      const int64_t rows = rows_of(wanted, 2 * features(), gpu());
      Array some(rows, x.columns);
      std::copy(x.values.end() - rows * x.columns, x.values.end(), some.values.begin());
      const Array y = activated(*ops, some, weight, false);
      for (size_t i = 0; i < y.values.size(); ++i)
        ASSERT_EQ(y.values[i], all.values[all.values.size() - y.values.size() + i]) << rows << " rows, element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Capability, SwigluTile, ::testing::ValuesIn(kCapabilities));

}  // namespace
}  // namespace mor::test
