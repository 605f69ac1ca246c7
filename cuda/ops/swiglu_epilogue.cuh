// The epilogue of swiglu's product: one thread gets gate and up of a feature, and writes silu(gate) * up.
#pragma once

#include <type_traits>

#include "cuda/tile/bf16.cuh"
#include "cuda/tile/special_functions.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"

namespace mor::cuda {

/// In bfloat16 by the special function unit: an exact exponential and a division take more time than the bytes do, and
/// their last bits would be rounded away.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x));
  else
    return 1.0f / (1.0f + expf(-x));
}

/// silu(gate) * up, of numbers that T can hold.
template <class T>
__device__ __forceinline__ float swiglu(float gate, float up) {
  return up * (gate * sigmoid<T>(gate));
}

/// The pairs of a weight of two halves, one above the other: pair p is its rows p and half + p. It has the members that
/// HeadPairs has for the products (head_pairs.cuh), where it is a single head.
struct GateUpPairs {
  uint32_t half;

  __device__ __forceinline__ uint32_t head(uint32_t) const { return 0; }
  /// The row of the weight that the tiles have at column `at`: kWidth of the first half, then kWidth of the second one,
  /// and so on. Beyond the last pair it is the number of rows.
  template <int kWidth>
  __device__ __forceinline__ int64_t column(int64_t at) const {
    const uint32_t t = static_cast<uint32_t>(at), pair = t / (2 * kWidth) * kWidth + t % kWidth;
    return int64_t{pair < half ? pair : half} + (pair >= half || t / kWidth % 2 != 0 ? half : 0);
  }
  bool keep_heads_whole(int) const { return true; }
};

/// One row of the product.
template <class T>
struct SwigluRow {
  T* out;
  uint32_t features;
  bool pairs_at_once;

  /// Takes features `feature` and the next one, which may lie beyond the last.
  __device__ __forceinline__ void operator()(uint32_t feature, const float (&gate)[2], const float (&up)[2]) const {
    float g[2] = {gate[0], gate[1]}, u[2] = {up[0], up[1]};
    round_to<T>(g);
    round_to<T>(u);
    store_pair(out, feature, features, pairs_at_once, {swiglu<T>(g[0], u[0]), swiglu<T>(g[1], u[1])});
  }
  __device__ __forceinline__ void operator()(uint32_t feature, float gate, float up) const {
    float both[2] = {gate, up};
    round_to<T>(both);
    out[feature] = from_float<T>(swiglu<T>(both[0], both[1]));
  }
};

template <class T>
struct SwigluEpilogue {
  GateUpPairs pairs;
  Matrix<T> out;  ///< [R,f]
  bool pairs_at_once;

  __device__ __forceinline__ SwigluRow<T> row(int64_t i) const { return {out.at(i), pairs.half, pairs_at_once}; }
};

template <class T>
SwigluEpilogue<T> swiglu_epilogue(const Tensor& out) {
  return {{static_cast<uint32_t>(out.columns())}, matrix_of<T>(out), pairs_aligned(out)};
}

}  // namespace mor::cuda
