// linear in bf16 by every class of tiles that cp.async loads: whole and partial tiles against the reference, and rows,
// which get the same bits in every class.
#include "test/cuda/gpu.h"
#include "test/ops/harness.h"

namespace mor::test {
namespace {

/// A buffer whose rows begin at multiples of 16 bytes.
Buffer aligned(Ops& ops, DType dtype, int64_t rows, int64_t columns, const char* name) {
  return Buffer(ops, dtype, rows, columns, name, (columns + 7) / 8 * 8 + 8);
}

/// inputs: x [R,k], weight [n,k].
Array product(Ops& ops, const Array& x, const Array& weight) {
  const DType dtype = ops.compute_dtype();
  const Buffer y = aligned(ops, dtype, x.rows, weight.rows, "y");
  Buffer left = aligned(ops, dtype, x.rows, x.columns, "x");
  Buffer right = aligned(ops, dtype, weight.rows, x.columns, "weight");
  left.set(x);
  right.set(weight);
  ops.linear_forward(left.tensor(), right.tensor(), {}, y.tensor());
  return y.get();
}

/// inputs: d_y [R,n], x [R,k], weight [n,k], start value of d_weight.
Arrays gradients(Ops& ops, const Arrays& in) {
  const DType dtype = ops.compute_dtype();
  Buffer d_y = aligned(ops, dtype, in[0].rows, in[0].columns, "d_y");
  Buffer x = aligned(ops, dtype, in[1].rows, in[1].columns, "x");
  Buffer weight = aligned(ops, dtype, in[2].rows, in[2].columns, "weight");
  Buffer d_weight = aligned(ops, ops.master_dtype(), in[3].rows, in[3].columns, "d_weight");
  const Buffer d_x = aligned(ops, dtype, in[1].rows, in[1].columns, "d_x");
  d_y.set(in[0]);
  x.set(in[1]);
  weight.set(in[2]);
  d_weight.set(in[3]);
  ops.linear_backward_input(d_y.tensor(), weight.tensor(), d_x.tensor());
  ops.linear_backward_weight(d_y.tensor(), x.tensor(), d_weight.tensor());
  return {d_x.get(), d_weight.get()};
}

void expect_products(int64_t rows, int64_t k, int64_t n) {
  SCOPED_TRACE(concat(rows, " rows, k ", k, ", n ", n));
  compare_with_reference([](Ops& ops, const Arrays& in) -> Arrays { return {product(ops, in[0], in[1])}; },
                         {random_array(rows, k, 1), random_array(n, k, 2)}, {true, true}, {true});
}

TEST(ProductClass, TakesTheShortestTime) {
  using cuda::ProductClass;
  const cuda::Gpu h200{132, size_t{227} << 10}, small{132, size_t{99} << 10};
  const auto expect = [](int64_t rows, int64_t columns, const cuda::Gpu& gpu, ProductClass expected) {
    EXPECT_EQ(cuda::product_class(rows, columns, gpu), expected) << rows << " x " << columns;
  };
  expect(16, 8192, h200, ProductClass::decode);
  expect(64, 8192, h200, ProductClass::narrow);
  expect(512, 960, h200,
         ProductClass::medium);  // 120 tiles in one wave; 32 large ones would leave most of the GPU idle
  expect(2048, 960, h200, ProductClass::large);  // 128 tiles in one wave
  expect(2048, 1600, h200, ProductClass::wide);  // 112 tiles in one wave; 208 large ones would take two
  expect(2048, 1600, small, ProductClass::large);
  expect(8192, 8192, h200, ProductClass::wide);
  // A gradient of 960 x 960 over 2048 rows is cut into four parts: 256 large tiles in two waves, 128 wide ones in one.
  EXPECT_EQ(cuda::product_class(960, 960, h200, 4), ProductClass::wide);
  const cuda::Gpu hopper{132, size_t{227} << 10, true};
  expect(64, 8192, hopper, ProductClass::narrow);
  expect(512, 960, hopper, ProductClass::medium);
  expect(2048, 960, hopper, ProductClass::hopper);
  expect(2048, 1600, hopper, ProductClass::hopper_wide);
}

class LinearTile : public EveryGpuTest {
 protected:
  int64_t columns() const { return columns_with_every_class(136, 30, gpu()); }
};

TEST_P(LinearTile, ForwardMatchesReferenceInEveryClass) {
  for (int64_t rows : {5, 16, 40, 64, 150})
    for (const auto& [k, n] : {std::pair<int64_t, int64_t>{8, 24}, {301, 75}, {136, 200}}) expect_products(rows, k, n);
  for (const cuda::ProductClass wanted : product_classes(gpu()))
    expect_products(rows_of(wanted, columns(), gpu()), 24, columns());
  expect_products(128 * (gpu().multiprocessors + 1), 136, columns());  // a block computes several of Hopper's tiles
}

TEST_P(LinearTile, BackwardMatchesReferenceInEveryClass) {
  const auto expect = [](int64_t rows, int64_t k, int64_t n) {
    SCOPED_TRACE(concat(rows, " rows, k ", k, ", n ", n));
    compare_with_reference(
        gradients, {random_array(rows, n, 3), random_array(rows, k, 4), random_array(n, k, 5), random_array(n, k, 6)},
        {true, true, true, false}, {true, false});
  };
  expect(70, 72, 130);
  expect(30, 139, 20);
  ASSERT_GT(cuda::product_splits(cuda::product_tiles<cuda::LargeProduct>(140, 66), 1100), 1);
  expect(1100, 66, 140);
  for (const cuda::ProductClass wanted : product_classes(gpu())) {
    const int64_t many = rows_of(wanted, columns(), gpu());
    expect(many, columns(), 10);
    expect(20, columns(), many);  // d_weight has so many rows
    expect(0, columns(), many);   // as a recursion has to which no token was sent
  }
}

/// All rows in the largest class, then some of them in every other class.
TEST_P(LinearTile, RowsGetTheSameBitsInEveryClass) {
  const int64_t most = rows_of(product_classes(gpu()).back(), columns(), gpu());
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::bfloat16) continue;
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Array x = random_array(most, 72, 7), weight = random_array(columns(), 72, 8);
    const Array all = product(*ops, x, weight);
    for (const cuda::ProductClass wanted : product_classes(gpu())) {
      const int64_t rows = rows_of(wanted, columns(), gpu());
      Array some(rows, x.columns);
      std::copy(x.values.end() - rows * x.columns, x.values.end(), some.values.begin());
      const Array y = product(*ops, some, weight);
      for (size_t i = 0; i < y.values.size(); ++i)
        ASSERT_EQ(y.values[i], all.values[all.values.size() - y.values.size() + i]) << rows << " rows, element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Capability, LinearTile, ::testing::ValuesIn(kCapabilities));

}  // namespace
}  // namespace mor::test
