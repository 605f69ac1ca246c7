// The matrix product of linear and qkv in float32, by FMA. An epilogue says what happens to its elements.
#pragma once

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

constexpr int kFmaThreads = 128;
constexpr int kFmaTile = 64;              // rows and columns of a block's tile of the product
constexpr int kFmaDepth = 32;             // step of the inner extent
constexpr int kFmaAcross = 16;            // threads across a tile, and the distance of a thread's columns
constexpr int kFmaPitch = kFmaDepth + 1;  // distance of rows in shared memory: lanes then read different banks

/// A factor as [rows, depth], with any order in memory.
struct FmaFactor {
  const float* data;
  int64_t rows, depth, row_stride, depth_stride;
};

/// A factor whose rows become columns in pairs, taken in the order that brings both columns of a pair to one thread.
template <class Pairs>
struct PairedFmaFactor : FmaFactor {
  Pairs pairs;
};

/// The factor's row that the tiles have at row `at`.
__device__ inline int64_t row_in_memory(const FmaFactor&, int64_t at) {
  return at;
}
template <class Pairs>
__device__ inline int64_t row_in_memory(const PairedFmaFactor<Pairs>& factor, int64_t at) {
  return factor.pairs.template column<kFmaAcross>(at);
}

/// Loads rows [first_row, first_row + kFmaTile) and depth [first, first + kFmaDepth) of a factor, with zeros beyond its
/// end.
template <class Factor>
__device__ inline void load_tile(const Factor& factor, int64_t first_row, int64_t first,
                                 float (&tile)[kFmaTile][kFmaPitch]) {
  const bool along_depth = factor.depth_stride == 1;
  for (int i = static_cast<int>(threadIdx.x); i < kFmaTile * kFmaDepth; i += kFmaThreads) {
    const int row = along_depth ? i / kFmaDepth : i % kFmaTile, depth = along_depth ? i % kFmaDepth : i / kFmaTile;
    const int64_t lies = row_in_memory(factor, first_row + row);
    const bool inside = lies < factor.rows && first + depth < factor.depth;
    tile[row][depth] = inside ? factor.data[lies * factor.row_stride + (first + depth) * factor.depth_stride] : 0.0f;
  }
}

/// A thread's 8 x 4 elements of a tile of the product: rows from row() on, and every kFmaAcross-th column from column()
/// on.
class FmaProduct {
 public:
  /// Adds the product of two tiles; of the first tile only the first `rows` rows are needed.
  __device__ void add(const float (&a)[kFmaTile][kFmaPitch], const float (&b)[kFmaTile][kFmaPitch], int64_t rows) {
    if (row() >= rows) return;
    for (int depth = 0; depth < kFmaDepth; ++depth) {
      float right[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) right[n] = b[column() + kFmaAcross * n][depth];
#pragma unroll
      for (int m = 0; m < 8; ++m) {
        const float left = a[row() + m][depth];
#pragma unroll
        for (int n = 0; n < 4; ++n) sum_[m][n] += left * right[n];
      }
    }
  }
  /// Calls body(row, column, value) with indices in the tile.
  template <class Body>
  __device__ void for_each(const Body& body) const {
#pragma unroll
    for (int m = 0; m < 8; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n) body(row() + m, column() + kFmaAcross * n, sum_[m][n]);
  }
  /// For a product with paired columns: calls body(row, pair, first, second) with indices in the tile.
  template <class Body>
  __device__ void for_each_pair(const Body& body) const {
#pragma unroll
    for (int m = 0; m < 8; ++m)
#pragma unroll
      for (int n = 0; n < 4; n += 2) body(row() + m, column() + kFmaAcross * n / 2, sum_[m][n], sum_[m][n + 1]);
  }

 private:
  static __device__ int row() {
    return static_cast<int>(threadIdx.x / kFmaAcross) * 8;
  }
  static __device__ int column() {
    return static_cast<int>(threadIdx.x % kFmaAcross);
  }
  float sum_[8][4] = {};
};

/// Computes a b^T and gives every element to epilogue(row, column, value), or, if b is paired, every pair to
/// epilogue.row(row)(pair, first, second). Each element is one sum over rising depth, for any number of rows.
template <class Right, class Epilogue>
__global__ void __launch_bounds__(kFmaThreads)
    fma_product_kernel(const FmaFactor a, const Right b, const Epilogue epilogue) {
  wait_for_earlier_kernels();
  __shared__ float a_tile[kFmaTile][kFmaPitch];
  __shared__ float b_tile[kFmaTile][kFmaPitch];
  const unsigned row_tiles = static_cast<unsigned>((a.rows + kFmaTile - 1) / kFmaTile);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x % row_tiles) * kFmaTile;
  const int64_t first_column = static_cast<int64_t>(blockIdx.x / row_tiles) * kFmaTile;
  FmaProduct product;
  for (int64_t depth = 0; depth < a.depth; depth += kFmaDepth) {
    load_tile(a, first_row, depth, a_tile);
    load_tile(b, first_column, depth, b_tile);
    __syncthreads();
    product.add(a_tile, b_tile, a.rows - first_row);
    __syncthreads();
  }
  if constexpr (!std::is_same_v<Right, FmaFactor>) {
    product.for_each_pair([&](int row, int pair, float first, float second) {
      const uint32_t of_all = static_cast<uint32_t>(first_column / 2 + pair);
      if (first_row + row < a.rows && 2 * of_all < b.rows) epilogue.row(first_row + row)(of_all, first, second);
    });
  } else {
    product.for_each([&](int row, int column, float value) {
      if (first_row + row < a.rows && first_column + column < b.rows)
        epilogue(first_row + row, first_column + column, value);
    });
  }
}

template <class Right, class Epilogue>
void multiply(Stream& stream, const FmaFactor& a, const Right& b, const Epilogue& epilogue) {
  const int64_t tiles = (a.rows + kFmaTile - 1) / kFmaTile * ((b.rows + kFmaTile - 1) / kFmaTile);
  launch(fma_product_kernel<Right, Epilogue>, dim3(blocks_for(tiles, 1)), dim3(kFmaThreads), 0, stream, a, b, epilogue);
}

}  // namespace mor::cuda
