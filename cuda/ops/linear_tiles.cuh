// What all matrix products share: their factors, the order of their tiles, and how sums reach an epilogue.
#pragma once

#include <type_traits>

#include "cuda/tile/bf16.cuh"
#include "cuda/tuning.h"

namespace mor::cuda {

/// A factor [rows, depth] of a product a b^T in device memory. The kernel's parameter says whether its tensor is
/// [rows, depth] or, transposed, [depth, rows]; rows of the tensor lie `stride` elements apart.
struct MmaFactor {
  const bf16* data;
  int64_t rows, depth, stride;
};
/// A factor whose rows become columns in pairs, taken in the order that brings both columns of a pair to one thread:
/// rotary pairs (HeadPairs), or gate and up of a feature (GateUpPairs).
template <class Pairs>
struct PairedMmaFactor : MmaFactor {
  Pairs pairs;
};
template <class Factor>
constexpr bool kPaired = !std::is_same_v<Factor, MmaFactor>;

/// Of a factor without pairs.
struct NoPairs {};
inline NoPairs pairs_of(const MmaFactor&) {
  return {};
}
template <class Pairs>
Pairs pairs_of(const PairedMmaFactor<Pairs>& factor) {
  return factor.pairs;
}

constexpr int kPairWidth = 8;  // columns of one mma_16x8x16; a pair's halves are in neighbouring products

/// Where a tile of a product begins, or the tiles of a cluster.
struct TilePlace {
  int64_t row, column;
};

/// Tiles, or groups of them that clusters compute (product_tiles), are numbered through bands of kBand tiles of rows,
/// each from its first to its last column, so that blocks that run at the same time read the same parts of both factors
/// from the L2 cache.
template <class Shape>
__device__ __forceinline__ TilePlace place_of_tile(int64_t rows, int64_t columns, int64_t number) {
  constexpr int64_t kRows = kCluster<Shape> * Shape::rows, kGroups = kBand / kCluster<Shape>;
  const int64_t row_groups = (rows + kRows - 1) / kRows;
  const int64_t column_tiles = (columns + Shape::columns - 1) / Shape::columns;
  const int64_t band = number / (kGroups * column_tiles) * kGroups, in_band = number % (kGroups * column_tiles);
  const int64_t band_rows = row_groups - band < kGroups ? row_groups - band : kGroups;
  return {(band + in_band % band_rows) * kRows, in_band / band_rows * Shape::columns};
}

/// Gives the sums of 16 rows and 8 kAcross columns to the epilogue, those that the product [rows, columns] has.
/// sum(n, i): element i of columns 8 n .. 8 n + 7, which lie in a warp as mma_16x8x16 says. place: of the first one.
template <bool paired, int kAcross, class Sum, class Epilogue>
__device__ __forceinline__ void give_sums(const Sum& sum, const Epilogue& epilogue, unsigned split, int64_t rows,
                                          int64_t columns, const TilePlace& place) {
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = place.row + 8 * half + lane / 4;
    if (row >= rows) continue;
    if constexpr (paired) {
      const auto to = epilogue.row(row);
      const uint32_t first_pair = static_cast<uint32_t>(place.column) / 2 + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kAcross; n += 2) {
        const uint32_t pair = first_pair + kPairWidth * n / 2;
        if (2 * pair < columns)
          to(pair, {sum(n, 2 * half), sum(n, 2 * half + 1)}, {sum(n + 1, 2 * half), sum(n + 1, 2 * half + 1)});
      }
    } else {
#pragma unroll
      for (int n = 0; n < kAcross; ++n) {
        const int64_t column = place.column + 8 * n + lane % 4 * 2;
        if (column < columns) epilogue(split, row, column, sum(n, 2 * half), sum(n, 2 * half + 1));
      }
    }
  }
}

}  // namespace mor::cuda
