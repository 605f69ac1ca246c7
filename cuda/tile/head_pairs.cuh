// Which column of q, k and v stands where in a tile of their product, so that both halves of a rotary pair meet in one
// thread. Must not know of ops.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/check.h"

namespace mor::cuda {

/// Pair p of heads of 2 half columns: columns j and j + half of head p / half, j being p % half.
struct HeadPairs {
  int64_t columns;  ///< of all heads
  uint32_t half, reciprocal;

  /// p / half, for p a tile's columns beyond the last pair too.
  __device__ __forceinline__ uint32_t head(uint32_t pair) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(2 * pair) * reciprocal >> 32);
  }
  /// The column that stands at column `at` of the tiles: kWidth first halves, then their second halves, in turn. Those
  /// beyond the last pair stand for columns from `columns` on.
  template <int kWidth>
  __device__ __forceinline__ int64_t column(int64_t at) const {
    const uint32_t t = static_cast<uint32_t>(at), pair = t / (2 * kWidth) * kWidth + t % kWidth;
    return pair + (head(pair) + t / kWidth % 2) * half;
  }
};

inline HeadPairs head_pairs(int64_t columns, int64_t head_dim) {
  constexpr int64_t kLimit = int64_t{1} << 31, kMostBeyond = 256;
  const int64_t half = head_dim / 2;
  MOR_CHECK((columns / 2 + kMostBeyond) * half < kLimit, INVALID_ARGUMENT, "the CUDA device cannot turn ", columns,
            " columns in heads of ", head_dim, "; their product must be below ", 4 * kLimit);
  return {columns, static_cast<uint32_t>(half), static_cast<uint32_t>((kLimit + half - 1) / half)};
}

/// The pair (a, b) turned by an angle (ops/ref/rotary.h). Written so that the compiler has no choice of rounding:
/// every kernel that turns gets the same bits.
__device__ __forceinline__ void turn(float& a, float& b, float cosine, float sine) {
  const float turned = fmaf(a, cosine, -(b * sine));
  b = fmaf(b, cosine, a * sine);
  a = turned;
}

}  // namespace mor::cuda
