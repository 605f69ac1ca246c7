// 2^x by the special function unit. Must not know of ops.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

/// 2^x with a relative error of 2^-22; results below the smallest normal number become 0, 2^-infinity is 0.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(MOR_CUDA_HOST)
  return std::exp2(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace mor::cuda
