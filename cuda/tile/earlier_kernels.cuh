// A kernel starts while the one before it is still running (launch in cuda/launch.h); where it waits for that one, and
// what it may do until then.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mor::cuda {

/// Waits until every kernel that was launched before has ended and its writes are seen, and lets the next kernel start.
/// Every thread of every kernel calls it before it reads or writes device memory. The device waits for one kernel only,
/// the one before; since that one has waited too, it ended after all earlier ones.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if defined(MOR_CUDA_HOST)
  cuda_host::wait_for_earlier_kernels();
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Brings `bytes` bytes to the L2 cache, or does nothing where kernels do not start early. It reads nothing, and the L2
/// cache sees every write, so it may be called before wait_for_earlier_kernels. address, bytes: multiples of 16.
__device__ __forceinline__ void prefetch_to_l2(const void* address, uint32_t bytes) {
#if defined(MOR_CUDA_HOST)
  cuda_host::prefetch_to_l2(address, bytes);
#elif __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(address)), "r"(bytes)
               : "memory");
#endif
}

}  // namespace mor::cuda
