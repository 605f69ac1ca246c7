// Clusters: neighbouring blocks that run at the same time and reach each other's shared memory (launch in
// cuda/launch.h).
#pragma once

#include "cuda/tile/hopper.cuh"

namespace mor::cuda {

/// Waits until all threads of the cluster's blocks have called it. Each then sees what all have done before. Blocks
/// call it before the first one reaches another's shared memory, and again before the first one ends: what a block
/// reaches must have begun and must not have ended.
__device__ __forceinline__ void cluster_sync() {
#if defined(MOR_CUDA_HOST)
  cuda_host::cluster_sync();
#else
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

}  // namespace mor::cuda
