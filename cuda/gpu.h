// gpu_of: what the choice of tiles depends on, of the GPU of a stream.
#pragma once

#include "cuda/launch.h"
#include "cuda/tuning.h"

namespace mor::cuda {

inline Gpu gpu_of(Stream& stream) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    stream.check(cudaDeviceGetAttribute(&value, which, stream.device()), "cudaDeviceGetAttribute");
    return value;
  };
  return {attribute(cudaDevAttrMultiProcessorCount),
          static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)),
          attribute(cudaDevAttrComputeCapabilityMajor) == 9 && attribute(cudaDevAttrComputeCapabilityMinor) == 0};
}

}  // namespace mor::cuda
