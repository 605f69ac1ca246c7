// The order of q's, k's and v's columns in the tiles of their product, which brings both halves of a rotary pair to one
// thread; and the rotation of a pair.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/check.h"

namespace mor::cuda {

/// The pairs of heads of 2 half columns: pair p is columns j and j + half of head p / half, where j = p % half.
struct HeadPairs {
  int64_t columns;  ///< of all heads
  uint32_t half, reciprocal;

  /// pair / half; the pair may lie beyond the last one by up to the columns of a tile.
  __device__ __forceinline__ uint32_t head(uint32_t pair) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(2 * pair) * reciprocal >> 32);
  }
  /// The column of the product that the tiles have at column `at`: kWidth first halves of pairs, then their kWidth
  /// second halves, and so on. Beyond the last pair it is `columns` or more.
  template <int kWidth>
  __device__ __forceinline__ int64_t column(int64_t at) const {
    const uint32_t t = static_cast<uint32_t>(at), pair = t / (2 * kWidth) * kWidth + t % kWidth;
    return pair + (head(pair) + t / kWidth % 2) * half;
  }
  /// Whether `width` neighbouring pairs, counted from a multiple of it, always lie in one head.
  bool keep_heads_whole(int width) const { return half % static_cast<uint32_t>(width) == 0; }
};

inline HeadPairs head_pairs(int64_t columns, int64_t head_dim) {
  constexpr int64_t kLimit = int64_t{1} << 31, kMostBeyond = 256;
  const int64_t half = head_dim / 2;
  MOR_CHECK((columns / 2 + kMostBeyond) * half < kLimit, INVALID_ARGUMENT, "the CUDA device cannot rotate ", columns,
            " columns in heads of ", head_dim, "; their product must be below ", 4 * kLimit);
  return {columns, static_cast<uint32_t>(half), static_cast<uint32_t>((kLimit + half - 1) / half)};
}

/// Rotates the pair (a, b) by an angle (ops/ref/rotary.h). The explicit fmaf leaves the compiler no choice of rounding,
/// so that every kernel gets the same bits.
__device__ __forceinline__ void rotate(float& a, float& b, float cosine, float sine) {
  const float rotated = fmaf(a, cosine, -(b * sine));
  b = fmaf(b, cosine, a * sine);
  a = rotated;
}

}  // namespace mor::cuda
