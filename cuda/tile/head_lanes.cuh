// A head of queries, keys or values in the registers of a group of neighbouring lanes, for kernels that sum over heads
// and turn rotary pairs.
#pragma once

#include <initializer_list>

#include "cuda/tile/reduce.cuh"
#include "cuda/tile/vec.cuh"

namespace mor::cuda {

/// How a group of lanes shares a head of 2 half columns: a lane has kVectorWidth<T> neighbouring pairs (pair j is columns
/// j and j + half). Which lane has what depends on the head dim and the dtype alone, so a sum over a head has one order
/// wherever the head lies in memory.
struct HeadLanes {
  int half;
  unsigned lanes;  ///< of a group; a power of two

  /// x = the N / 2 pairs of a head from pair j on: first halves, then second halves. vectors: each half is one aligned
  /// vector. Pairs behind the end of the head are read as zeros, and not written.
  template <bool vectors, int N, class T>
  __device__ __forceinline__ void load_pairs(float (&x)[N], const T* head, int j) const {
    float first[N / 2] = {}, second[N / 2] = {};
    if constexpr (vectors) {
      if (j < half) {
        load(first, head + j);
        load(second, head + half + j);
      }
    }
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if (!vectors && j + i < half) {
        first[i] = to_float(head[j + i]);
        second[i] = to_float(head[half + j + i]);
      }
      x[i] = first[i];
      x[N / 2 + i] = second[i];
    }
  }
  template <bool vectors, int N, class T>
  __device__ __forceinline__ void store_pairs(T* head, int j, const float (&x)[N]) const {
    float first[N / 2], second[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      first[i] = x[i];
      second[i] = x[N / 2 + i];
      if (!vectors && j + i < half) {
        head[j + i] = from_float<T>(first[i]);
        head[half + j + i] = from_float<T>(second[i]);
      }
    }
    if constexpr (vectors) {
      if (j >= half) return;
      store(head + j, first);
      store(head + half + j, second);
    }
  }

  /// 1 / sqrt(mean square of the head + epsilon), for every lane of the group; x: the lane's own pairs.
  template <int N>
  __device__ __forceinline__ float rstd(const float (&x)[N], float epsilon) const {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) squares += x[i] * x[i];
    return 1.0f / sqrtf(group_sum(squares, lanes) / static_cast<float>(2 * half) + epsilon);
  }
};

/// op: for the error where a head has more pairs than a warp can take.
template <class T>
HeadLanes head_lanes(const char* op, int64_t head_dim) {
  constexpr int64_t kMostHeadDim = int64_t{2} * 32 * kVectorWidth<float>;
  MOR_CHECK(head_dim <= kMostHeadDim, INVALID_ARGUMENT, op, ": head dim ", head_dim,
            ", but the CUDA device norms heads of up to ", kMostHeadDim);
  unsigned lanes = 1;
  while (lanes * kVectorWidth<T> < head_dim / 2) lanes *= 2;
  return {static_cast<int>(head_dim / 2), lanes};
}

/// Runs body(vectors): whether the pairs of heads in all of these tensors may be read and written as vectors.
template <class T, class Body>
void with_head_vectors(const HeadLanes& heads, std::initializer_list<const Tensor*> tensors, const Body& body) {
  bool vectors = heads.half % kVectorWidth<T> == 0;
  for (const Tensor* tensor : tensors) vectors = vectors && rows_aligned(*tensor);
  if (vectors)
    body(std::true_type{});
  else
    body(std::false_type{});
}

}  // namespace mor::cuda
