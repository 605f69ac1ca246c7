// What the tile kernels of attention share (bf16, mma.sync): how rows and heads become the lanes of a tile, how tiles
// of heads are loaded to shared memory, and their products.
#pragma once

#include "cuda/ops/attention.cuh"
#include "cuda/tile/matrix_tile.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/special_functions.cuh"

namespace mor::cuda {

/// The queries of one sequence that share a key head. A lane is one row and one query head of the group; the heads of a
/// row are neighbours, so that a tile of lanes reads each key once for the whole group. `visible` does not fall from
/// lane to lane.
struct Lanes {
  int first_row, count, group, first_head;

  __device__ Lanes(const Rows& rows, int s, int key_head, int group_)
      : first_row(rows.start[s]),
        count((rows.start[s + 1] - rows.start[s]) * group_),
        group(group_),
        first_head(key_head * group_) {}
  __device__ int row(int lane) const { return first_row + lane / group; }
  __device__ int head(int lane) const { return first_head + lane % group; }
};

/// How many keys a lane sees; 0 if there is no such lane.
__device__ __forceinline__ int visible_of(const Rows& rows, const Lanes& lanes, int lane) {
  return lane < lanes.count ? rows.visible[lanes.row(lane)] : 0;
}

/// Begins to load heads to shared memory: row i of the tile from source(i), or zeros if that is null; columns from
/// head_dim on are zeros. somewhere: any address of device memory.
template <int kThreads, bool aligned, class Tile, class Source>
__device__ __forceinline__ void load_heads(const Tile& to, int head_dim, const bf16* somewhere, const Source& source) {
  constexpr int kRowsAtOnce = kThreads / Tile::chunks;
  static_assert(kThreads % Tile::chunks == 0 && Tile::rows % kRowsAtOnce == 0);
  const int chunk = static_cast<int>(threadIdx.x) % Tile::chunks;
#pragma unroll
  for (int i = 0; i < Tile::rows / kRowsAtOnce; ++i) {
    const int row = static_cast<int>(threadIdx.x) / Tile::chunks + i * kRowsAtOnce;
    const bf16* from = source(row);
    const int count = from == nullptr ? 0 : chunk_count(chunk * 8, head_dim);
    copy_chunk<aligned>(to.chunk(row, chunk), count == 0 ? somewhere : from + chunk * 8, count);
  }
}

/// The left factors of 16 rows of a tile over all its columns. They are kept in registers or, if those are too few,
/// loaded each time they are used.
template <class Tile, bool kept>
class LeftRows {
 public:
  LeftRows() = default;
  __device__ LeftRows(const Tile& tile, int row) : tile_(tile), row_(row) {}
  /// To be called once, when the tile is in shared memory.
  __device__ __forceinline__ void keep() {
    if constexpr (kept)
#pragma unroll
      for (int k = 0; k < Tile::columns / 16; ++k) load_left<false>(factors_[k], tile_, row_, 16 * k);
  }
  /// The factor of columns 16k .. 16k + 15.
  __device__ __forceinline__ void get(uint32_t (&to)[4], int k) const {
    if constexpr (kept) {
#pragma unroll
      for (int i = 0; i < 4; ++i) to[i] = factors_[k][i];
    } else {
      load_left<false>(to, tile_, row_, 16 * k);
    }
  }

 private:
  Tile tile_;
  int row_;
  uint32_t factors_[kept ? Tile::columns / 16 : 1][4];
};

/// product [16, right.rows] = left right^T over all columns.
template <class Left, class Tile>
__device__ __forceinline__ void multiply_rows(float (&product)[Tile::rows / 8][4], const Left& left,
                                              const Tile& right) {
#pragma unroll
  for (int n = 0; n < Tile::rows / 8; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) product[n][i] = 0;
#pragma unroll
  for (int k = 0; k < Tile::columns / 16; ++k) {
    uint32_t a[4];
    left.get(a, k);
#pragma unroll
    for (int n = 0; n < Tile::rows / 8; n += 2) {
      uint32_t first[2], second[2];
      load_right<false>(first, second, right, 8 * n, 16 * k);
      mma_16x8x16(product[n], a, first);
      mma_16x8x16(product[n + 1], a, second);
    }
  }
}

/// sum [16, right.columns] += weights [16, right.rows] right. The weights are the result of a product; rounded to bf16,
/// their registers are the left factors of this one.
template <class Tile>
__device__ __forceinline__ void add_weighted(float (&sum)[Tile::columns / 8][4],
                                             const float (&weights)[Tile::rows / 8][4], const Tile& right) {
#pragma unroll
  for (int k = 0; k < Tile::rows / 16; ++k) {
    const float(&low)[4] = weights[2 * k], (&high)[4] = weights[2 * k + 1];
    const uint32_t a[4] = {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
                           pack_bf16(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < Tile::columns / 8; n += 2) {
      uint32_t first[2], second[2];
      load_right<true>(first, second, right, 8 * n, 16 * k);
      mma_16x8x16(sum[n], a, first);
      mma_16x8x16(sum[n + 1], a, second);
    }
  }
}

/// Heads are padded with zeros to a head dim of 64 or 128. Tiles of larger heads would not fit into shared memory.
constexpr int kMostTileHeadDim = 128;

/// Whether cp.async can fetch the heads of all of these tensors.
inline bool heads_aligned(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors)
    if (!rows_aligned(*tensor) || tensor->shape[2] % 8 != 0) return false;
  return true;
}

/// Calls body(head dim of the tiles, aligned), both as compile-time constants.
template <class Body>
void with_tiles(int64_t head_dim, bool aligned, const Body& body) {
  const auto with_head_dim = [&](auto constant) {
    if (aligned)
      body(constant, std::true_type{});
    else
      body(constant, std::false_type{});
  };
  if (head_dim <= 64)
    with_head_dim(std::integral_constant<int, 64>{});
  else
    with_head_dim(std::integral_constant<int, 128>{});
}

/// Whether two neighbouring elements of a head can be read and written at once.
inline bool heads_in_pairs(const Tensor& tensor) {
  return pairs_aligned(tensor) && tensor.shape[2] % 2 == 0;
}

}  // namespace mor::cuda
