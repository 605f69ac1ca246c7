// bf16 on the device: storage, and conversion from and to float.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "core/dtype.h"

namespace mor {

/// bfloat16 for kernels: it has no constructors, so it may lie in shared memory. Arithmetic happens in float.
struct bf16 {
  static constexpr DType dtype = DType::bfloat16;
  uint16_t bits;
};

namespace cuda {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

/// Two floats, each rounded to the nearest bf16 (ties to even); the first is in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float first, float second) {
#if defined(MOR_CUDA_HOST)
  return static_cast<uint32_t>(bfloat16(first).bits) | static_cast<uint32_t>(bfloat16(second).bits) << 16;
#else
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
#endif
}

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return {static_cast<uint16_t>(pack_bf16(x, 0.0f))};
}

/// Rounds floats to T, as writing and reading them does.
template <class T, int N>
__device__ __forceinline__ void round_to(float (&x)[N]) {
  if constexpr (std::is_same_v<T, bf16>) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const uint32_t packed = pack_bf16(x[i], x[i + 1]);
      x[i] = __uint_as_float(packed << 16);
      x[i + 1] = __uint_as_float(packed & 0xffff0000u);
    }
  }
}

}  // namespace cuda
}  // namespace mor
