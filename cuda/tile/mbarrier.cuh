// mbarrier: a barrier in shared memory that counts arrivals of threads and bytes of asynchronous copies.
#pragma once

#include "cuda/tile/async_copy.cuh"
#include "cuda/tile/hopper.cuh"

namespace mor::cuda {

/// In shared memory. It runs through phases 0, 1, 2, …: a phase is complete when as many arrivals as mbarrier_init says
/// have come, and all bytes that were announced; the next one begins at once.
struct Mbarrier {
  uint64_t word;
};

/// By one thread, before any other use. arrivals: of each phase.
__device__ __forceinline__ void mbarrier_init(Mbarrier& barrier, int arrivals) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_init(&barrier.word, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
#endif
}

/// By the thread that has called mbarrier_init, behind its last one: copies see the barriers from here on. Other
/// threads see them after a barrier of the block.
__device__ __forceinline__ void mbarrier_init_fence() {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_init_fence();
#else
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// One arrival. What the thread did before is seen by threads that wait for the phase.
__device__ __forceinline__ void mbarrier_arrive(Mbarrier& barrier) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_arrive(&barrier.word);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#endif
}

/// One arrival at the barrier that lies in the same place in block `rank` of the cluster. That block must have
/// initialised it, and must not end before the arrival: there is a cluster_sync between.
__device__ __forceinline__ void mbarrier_arrive_in_block(Mbarrier& barrier, int rank) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_arrive_in_block(&barrier.word, rank);
#else
  asm volatile(
      "{ .reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there]; }" ::"r"(shared_address(&barrier)),
      "r"(rank)
      : "memory");
#endif
}

/// One arrival, which announces that copies will bring so many bytes in this phase.
__device__ __forceinline__ void mbarrier_expect_bytes(Mbarrier& barrier, int bytes) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_expect_bytes(&barrier.word, bytes);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
#endif
}

/// Waits until the youngest phase of this parity (its number modulo 2) is complete. A new barrier counts as if a phase
/// of parity 1 were complete. of_cluster: whether other blocks arrive, too.
template <bool of_cluster = false>
__device__ __forceinline__ void mbarrier_wait(Mbarrier& barrier, uint32_t parity) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mbarrier_wait(&barrier.word, parity);
#else
  uint32_t complete;
  do {
    if constexpr (of_cluster)
      asm volatile(
          "{ .reg .pred complete;\n"
          "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [%1], %2;\n"
          "selp.u32 %0, 1, 0, complete; }"
          : "=r"(complete)
          : "r"(shared_address(&barrier)), "r"(parity)
          : "memory");
    else
      asm volatile(
          "{ .reg .pred complete;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 complete, [%1], %2;\n"
          "selp.u32 %0, 1, 0, complete; }"
          : "=r"(complete)
          : "r"(shared_address(&barrier)), "r"(parity)
          : "memory");
  } while (complete == 0);
#endif
}

}  // namespace mor::cuda
