// What all kernels of attention share: where keys lie, and which sequence a row belongs to.
#pragma once

#include "cuda/tile/search.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/rows.h"

namespace mor::cuda {

/// The slot of key j of sequence s (ops/rows.h).
__device__ __forceinline__ int64_t key_slot(const Rows& rows, int64_t s, int j) {
  if (rows.block_size == 0) return static_cast<int64_t>(rows.key_start[s]) + j;
  return static_cast<int64_t>(rows.block_table[s * rows.blocks_per_list + j / rows.block_size]) * rows.block_size +
         j % rows.block_size;
}

/// The sequence that row i belongs to: the last one that starts at or before it.
__device__ __forceinline__ int sequence_of(const Rows& rows, int i) {
  return first_where(1, rows.key_lists, [&](int s) { return rows.start[s] > i; }) - 1;
}

/// <a, b> over head_dim elements, summed in their order.
template <int N, class T>
__device__ __forceinline__ float dot(const T* a, const T* b, int head_dim) {
  float sum = 0;
  for (int c = 0; c < head_dim; c += N) {
    float x[N], y[N];
    load(x, a + c);
    load(y, b + c);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += x[i] * y[i];
  }
  return sum;
}

// Of the kernels without tiles: warps of a block, and elements of a head that a lane keeps (every 32nd).
constexpr int kWarpsPerBlock = 4;
constexpr int kMostHeadDim = 256, kElementsPerLane = kMostHeadDim / 32;

inline void check_head_dim(const char* op, const Tensor& q) {
  MOR_CHECK(q.shape[2] <= kMostHeadDim, INVALID_ARGUMENT, op, ": head dim ", q.shape[2],
            ", but the CUDA device computes up to ", kMostHeadDim);
}

}  // namespace mor::cuda
