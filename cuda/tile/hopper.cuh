// MOR_CUDA_HOPPER: whether the instructions that compute capability 9.0 alone has can be compiled here.
#pragma once

#include <cuda_runtime.h>

#if defined(MOR_CUDA_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOR_CUDA_HOPPER 1
#else
#define MOR_CUDA_HOPPER 0
#endif
