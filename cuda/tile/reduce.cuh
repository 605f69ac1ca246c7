// Sums and maxima over lanes, over a warp and over a block. Their order depends on the number of threads alone.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Min {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

/// Combines the values of a warp's lanes; every lane gets the result.
template <class Combine, class T>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

/// Combines the values of a one-dimensional block of whole warps; every thread gets the result. It takes two barriers.
template <class Combine, class T>
__device__ __forceinline__ T block_reduce(T value, Combine combine, T neutral) {
  __shared__ T of_warp[32];
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_reduce(value, combine);
  __syncthreads();  // all threads have read of_warp in the call before
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  return warp_reduce(lane < blockDim.x / 32 ? of_warp[lane] : neutral, combine);
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce(value, Sum{});
}
/// The sum over a group of `lanes` neighbouring lanes, a power of two, for each of them. Either all lanes of a group
/// call it or none.
template <class T>
__device__ __forceinline__ T group_sum(T value, unsigned lanes) {
  const unsigned mask = kAllLanes >> (32 - lanes) << (threadIdx.x % 32 & ~(lanes - 1));
  for (unsigned offset = lanes / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(mask, value, static_cast<int>(offset));
  return value;
}
template <class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_reduce(value, Sum{}, T(0));
}

}  // namespace mor::cuda
