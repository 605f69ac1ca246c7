// The block's dynamic shared memory.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

/// It is aligned to 1024 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#if defined(MOR_CUDA_HOST)
  return static_cast<T*>(cuda_host::dynamic_shared_memory());
#else
  extern __shared__ __align__(1024) unsigned char dynamic_shared_bytes[];
  return reinterpret_cast<T*>(dynamic_shared_bytes);
#endif
}

}  // namespace mor::cuda
