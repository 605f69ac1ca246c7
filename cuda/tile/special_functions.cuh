// 2^x and 1/x by the special function unit, whose results are near but not correctly rounded.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

/// 2^x with a relative error of at most 2^-22. Results below the smallest normal number are 0, and so is 2^-infinity;
/// 2^0 is 1.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(MOR_CUDA_HOST)
  const float y = std::exp2(x);
  return x == 0 ? y : cuda_host::approximate(y, 0x1p-22f);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

/// 1/x with a relative error of at most 2^-23. Where that is below the smallest normal number, it is 0.
__device__ __forceinline__ float fast_reciprocal(float x) {
#if defined(MOR_CUDA_HOST)
  return cuda_host::approximate(1.0f / x, 0x1p-23f);
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace mor::cuda
