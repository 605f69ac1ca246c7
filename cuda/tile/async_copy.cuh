// cp.async: copies from global to shared memory that a thread begins now and waits for later.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace mor::cuda {

#if !defined(MOR_CUDA_HOST)
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
#endif

/// Begins to write 16 bytes: the first `bytes` are copied, the others become zeros and are not read. Both addresses are
/// multiples of 16.
__device__ __forceinline__ void async_copy16(void* shared, const void* global, int bytes = 16) {
#if defined(MOR_CUDA_HOST)
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    cuda_host::fail("cp.async: an address is no multiple of 16");
  cuda_host::begin_async_copy({shared, global, 16, static_cast<unsigned>(bytes)});
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
               : "memory");
#endif
}

/// Makes one group of the copies that the thread has begun since the last call.
__device__ __forceinline__ void async_copy_commit() {
#if defined(MOR_CUDA_HOST)
  cuda_host::commit_async_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most the thread's `pending` youngest groups are unfinished. Other threads see the data after a
/// barrier.
template <int pending>
__device__ __forceinline__ void async_copy_wait() {
#if defined(MOR_CUDA_HOST)
  cuda_host::wait_async_copies(pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace mor::cuda
