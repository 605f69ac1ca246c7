// The product of Hopper's kernel by tiles with a cluster and without, against sums of whole numbers; the race detector
// watches. This file is compiled like the kernels of mor_cuda_race.
#include <vector>

#include "cuda/ops/linear_launch.cuh"
#include "cuda/ops/linear_wgmma.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

using cuda::MmaFactor;

/// out [splits, rows, columns].
struct StoreSums {
  float* out;
  int64_t rows, columns;

  __device__ void operator()(unsigned split, int64_t row, int64_t column, float first, float second) const {
    float* to = out + (split * rows + row) * columns + column;
    to[0] = first;
    to[1] = second;
  }
};

/// Whole numbers from -3 to 3, whose products and sums float32 has exactly.
int element(int64_t row, int64_t k, int seed) {
  return static_cast<int>((row * 31 + k * 17 + row * k * seed) % 7) - 3;
}

/// A factor [rows, depth] in device memory, whose rows begin at multiples of 16 bytes.
struct Factor {
  DeviceArray<bf16> data;
  MmaFactor factor;

  Factor(int64_t rows, int64_t depth, bool transposed, int seed)
      : data(static_cast<size_t>((transposed ? depth : rows) * stride(rows, depth, transposed))),
        factor{data.data(), rows, depth, stride(rows, depth, transposed)} {
    std::vector<bf16> values(static_cast<size_t>((transposed ? depth : rows) * factor.stride));
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t k = 0; k < depth; ++k)
        values[static_cast<size_t>(transposed ? k * factor.stride + row : row * factor.stride + k)] =
            cuda::from_float<bf16>(static_cast<float>(element(row, k, seed)));
    cudaMemcpyAsync(data.data(), values.data(), values.size() * sizeof(bf16), cudaMemcpyHostToDevice, nullptr);
  }
  static int64_t stride(int64_t rows, int64_t depth, bool transposed) {
    return ((transposed ? rows : depth) + 7) / 8 * 8;
  }
};

/// multiprocessors: so few that a block computes several tiles.
template <class Tile, bool a_transposed, bool b_transposed>
void expect_product(int64_t rows, int64_t columns, int64_t depth, int64_t splits, int64_t multiprocessors) {
  SCOPED_TRACE(concat(rows, " x ", columns, " x ", depth, ", tile of ", Tile::columns, " columns, cluster ",
                      Tile::cluster, ", transposed ", a_transposed, b_transposed));
  const Factor a(rows, depth, a_transposed, 2), b(columns, depth, b_transposed, 3);
  const DeviceArray<float> out(static_cast<size_t>(splits * rows * columns));
  cuda::Stream stream(0);
  cuda::start_wgmma_product<Tile, a_transposed, b_transposed>(stream, {multiprocessors, Tile::shared_bytes, true},
                                                              a.factor, b.factor, splits,
                                                              StoreSums{out.data(), rows, columns});
  std::vector<float> sums(static_cast<size_t>(splits * rows * columns));
  ASSERT_EQ(cudaMemcpyAsync(sums.data(), out.data(), sums.size() * sizeof(float), cudaMemcpyDeviceToHost, nullptr),
            cudaSuccess);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column) {
      int expected = 0;
      for (int64_t k = 0; k < depth; ++k) expected += element(row, k, 2) * element(column, k, 3);
      float sum = 0;
      for (int64_t s = 0; s < splits; ++s) sum += sums[static_cast<size_t>((s * rows + row) * columns + column)];
      ASSERT_EQ(sum, static_cast<float>(expected)) << row << ", " << column;
    }
}

/// The ring runs around more than once; an odd number of tiles of rows, so that the last one of a cluster is empty;
/// rows and columns that end inside a tile, and columns that fill no more than one block's half; fewer tiles than
/// clusters.
template <class Tile>
void expect_products() {
  expect_product<Tile, false, false>(300, 300, 520, 1, 2);
  expect_product<Tile, false, true>(257, 100, 200, 1, 4);
  expect_product<Tile, true, true>(129, 136, 900, 2, 2);
  expect_product<Tile, false, false>(70, 50, 8, 1, 4);
}

TEST(LinearWgmma, OfWideTilesInClusters) {
  expect_products<cuda::HopperTile<2, 256, 4, 2, 0>>();
}
TEST(LinearWgmma, OfTilesInClusters) {
  expect_products<cuda::HopperTile<2, 128, 6, 2, 0>>();
}
TEST(LinearWgmma, OfTilesWithoutClusters) {
  expect_products<cuda::HopperTile<2, 128, 6, 1, 0>>();
}

}  // namespace
}  // namespace mor::cuda_host::test
