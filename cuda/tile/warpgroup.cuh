// Warpgroups: four warps that multiply together, the registers that they share out, and barriers of some of them.
#pragma once

#include "cuda/tile/hopper.cuh"

namespace mor::cuda {

constexpr int kWarpgroup = 128;  ///< threads

/// Gives back the registers of each thread beyond n, a multiple of 8 from 24 to 256. All threads of a warpgroup call
/// it.
template <int n>
__device__ __forceinline__ void set_registers_down() {
#if defined(MOR_CUDA_HOST)
  cuda_host::set_registers(n, false);
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
#endif
}

/// Waits until each thread can have n registers. The kernel's __launch_bounds__ say how many all have together.
template <int n>
__device__ __forceinline__ void set_registers_up() {
#if defined(MOR_CUDA_HOST)
  cuda_host::set_registers(n, true);
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
#endif
}

/// Divides a block: load() runs in its last warpgroup, multiply() in the others, each with its share of the registers.
template <class Shape, class Load, class Multiply>
__device__ __forceinline__ void divide_block(const Load& load, const Multiply& multiply) {
  if (threadIdx.x >= Shape::threads - kWarpgroup) {
    set_registers_down<Shape::loader_registers>();
    load();
  } else {
    set_registers_up<Shape::registers>();
    multiply();
  }
}

/// Waits until `threads` threads, this one among them, have called named_barrier_sync or named_barrier_arrive. id: 1 to
/// 15. threads: a multiple of 32. All lanes of a warp call it.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
#if defined(MOR_CUDA_HOST)
  cuda_host::barrier_sync(id, threads, "named_barrier_sync");
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

/// The same without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
#if defined(MOR_CUDA_HOST)
  cuda_host::barrier_arrive(id, threads, "named_barrier_arrive");
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace mor::cuda
