// A matrix of bf16 in shared memory that cp.async fills and ldmatrix reads, both without bank conflicts.
#pragma once

#include "cuda/tile/mma.cuh"
#include "cuda/tile/vec.cuh"

namespace mor::cuda {

/// [kRows, kColumns] at a multiple of 128 bytes. The chunks of 8 elements (16 bytes) of a row are permuted by the row's
/// number, so that the same chunk of 8 neighbouring rows lies in different banks.
template <int kRows, int kColumns>
struct MatrixTile {
  static constexpr int rows = kRows, columns = kColumns, elements = kRows * kColumns;
  static constexpr int chunks = kColumns / 8;  ///< of a row; a power of two
  static_assert(kColumns % 16 == 0 && (chunks & (chunks - 1)) == 0);

  bf16* data;

  __device__ __forceinline__ bf16* chunk(int row, int index) const {
    constexpr int rows_per_line = chunks < 8 ? 8 / chunks : 1, mask = chunks < 8 ? chunks - 1 : 7;
    return data + row * kColumns + ((index ^ (row / rows_per_line & mask)) * 8);
  }
};

/// Begins to copy `count` (0 to 8) elements to one chunk; zeros fill the rest. aligned = false: `from` may be any
/// multiple of 2 bytes, and the copy is done at once.
template <bool aligned>
__device__ __forceinline__ void copy_chunk(bf16* to, const bf16* from, int count) {
  if constexpr (aligned) {
    async_copy16(to, from, 2 * count);
  } else {
    Vec<bf16, 8> chunk;
#pragma unroll
    for (int i = 0; i < 8; ++i) chunk.v[i] = i < count ? from[i] : bf16{0};
    *reinterpret_cast<Vec<bf16, 8>*>(to) = chunk;
  }
}

/// How many elements the chunk has that begins at `column` of a row of `columns`.
__device__ __forceinline__ int chunk_count(int64_t column, int64_t columns) {
  const int64_t left = columns - column;
  return left >= 8 ? 8 : left <= 0 ? 0 : static_cast<int>(left);
}

/// The left factor of mma_16x8x16: rows `row` .. + 15 at depth .. + 15 of a tile [rows, depth], or, transposed, of a
/// tile [depth, rows].
template <bool transposed, class Tile>
__device__ __forceinline__ void load_left(uint32_t (&to)[4], const Tile& tile, int row, int depth) {
  const int matrix = static_cast<int>(threadIdx.x % 32) / 8, i = static_cast<int>(threadIdx.x % 8);
  const int r = row + matrix % 2 * 8, k = depth + matrix / 2 * 8;
  load_matrix_x4<transposed>(to, transposed ? tile.chunk(k + i, r / 8) : tile.chunk(r + i, k / 8));
}

/// Two right factors of mma_16x8x16, of columns `column` .. + 7 and + 8 .. + 15 at depth .. + 15 of a tile
/// [columns, depth], or, transposed, of a tile [depth, columns].
template <bool transposed, class Tile>
__device__ __forceinline__ void load_right(uint32_t (&first)[2], uint32_t (&second)[2], const Tile& tile, int column,
                                           int depth) {
  const int matrix = static_cast<int>(threadIdx.x % 32) / 8, i = static_cast<int>(threadIdx.x % 8);
  const int c = column + matrix / 2 * 8, k = depth + matrix % 2 * 8;
  uint32_t to[4];
  load_matrix_x4<transposed>(to, transposed ? tile.chunk(k + i, c / 8) : tile.chunk(c + i, k / 8));
  first[0] = to[0];
  first[1] = to[1];
  second[0] = to[2];
  second[1] = to[3];
}

}  // namespace mor::cuda
