// MOR_CUDA_HOPPER: whether code is being compiled for compute capability 9.0. Kernels with instructions that no other
// one has are empty elsewhere.
#pragma once

#include <cuda_runtime.h>

#if defined(MOR_CUDA_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOR_CUDA_HOPPER 1
#else
#define MOR_CUDA_HOPPER 0
#endif
