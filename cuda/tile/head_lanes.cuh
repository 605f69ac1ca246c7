// A head in the registers of a group of neighbouring lanes, for kernels that sum over heads and rotate pairs.
#pragma once

#include <initializer_list>

#include "cuda/tile/reduce.cuh"
#include "cuda/tile/vec.cuh"

namespace mor::cuda {

/// A group of lanes that holds a head of 2 half columns. Each lane has kVectorWidth<T> neighbouring rotary pairs, where
/// pair j is columns j and j + half. Which lane has which pairs depends on the head dim and the dtype alone, so a sum
/// over a head has the same order wherever the head lies in memory.
struct HeadLanes {
  int half;
  unsigned count;  ///< of lanes, a power of two

  /// x = the N / 2 pairs of a head from pair `first` on: first halves, then second halves. vectors: both are aligned
  /// vectors. Pairs behind the end of the head are zeros, and store_pairs does not write them.
  template <bool vectors, int N, class T>
  __device__ __forceinline__ void load_pairs(float (&x)[N], const T* head, int first) const {
    float low[N / 2] = {}, high[N / 2] = {};
    if constexpr (vectors) {
      if (first < half) {
        load(low, head + first);
        load(high, head + half + first);
      }
    }
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if (!vectors && first + i < half) {
        low[i] = to_float(head[first + i]);
        high[i] = to_float(head[half + first + i]);
      }
      x[i] = low[i];
      x[N / 2 + i] = high[i];
    }
  }
  template <bool vectors, int N, class T>
  __device__ __forceinline__ void store_pairs(T* head, int first, const float (&x)[N]) const {
    float low[N / 2], high[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      low[i] = x[i];
      high[i] = x[N / 2 + i];
      if (!vectors && first + i < half) {
        head[first + i] = from_float<T>(low[i]);
        head[half + first + i] = from_float<T>(high[i]);
      }
    }
    if constexpr (vectors) {
      if (first >= half) return;
      store(head + first, low);
      store(head + half + first, high);
    }
  }

  /// 1 / sqrt(mean square of the head + epsilon), for every lane of the group. x: the lane's own pairs.
  template <int N>
  __device__ __forceinline__ float rstd(const float (&x)[N], float epsilon) const {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) squares += x[i] * x[i];
    return 1.0f / sqrtf(group_sum(squares, count) / static_cast<float>(2 * half) + epsilon);
  }
};

/// Throws INVALID_ARGUMENT, in the name of `op`, if a warp cannot hold a head.
template <class T>
HeadLanes head_lanes(const char* op, int64_t head_dim) {
  constexpr int64_t kMostHeadDim = int64_t{2} * 32 * kVectorWidth<float>;
  MOR_CHECK(head_dim <= kMostHeadDim, INVALID_ARGUMENT, op, ": head dim ", head_dim,
            ", but the CUDA device normalises heads of up to ", kMostHeadDim);
  unsigned count = 1;
  while (count * kVectorWidth<T> < head_dim / 2) count *= 2;
  return {static_cast<int>(head_dim / 2), count};
}

/// Runs body(vectors): whether the pairs of heads in all of these tensors can be read and written as vectors.
template <class T, class Body>
void with_head_vectors(const HeadLanes& lanes, std::initializer_list<const Tensor*> tensors, const Body& body) {
  bool vectors = lanes.half % kVectorWidth<T> == 0;
  for (const Tensor* tensor : tensors) vectors = vectors && rows_aligned(*tensor);
  if (vectors)
    body(std::true_type{});
  else
    body(std::false_type{});
}

}  // namespace mor::cuda
