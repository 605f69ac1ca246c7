// 2^x by the special function unit.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

/// 2^x with a relative error of at most 2^-22. Results below the smallest normal number are 0, and so is 2^-infinity.
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
