// Which GPUs there are, whether they can be used, and how to compute on one. Knows no CUDA header, so that everybody
// may include it. Must not know of ops' implementations.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct CudaInfo {
  int index = 0;  ///< as CUDA counts, after CUDA_VISIBLE_DEVICES
  std::string name;
  size_t memory_bytes = 0;
  std::string compute_capability;  ///< "9.0"
  bool usable = true;
  std::string reason;  ///< why not, for an unusable one
};

/// Every GPU that the driver shows, usable or not; none where there is no driver or it is too old, and then `reason`
/// (may be null) gets why.
std::vector<CudaInfo> cuda_devices(std::string* reason);

/// compute: float32 or bfloat16. Throws DRIVER_TOO_OLD, DEVICE_UNAVAILABLE (no driver, no GPU, no such index) or
/// DEVICE_TOO_OLD (compute capability below 8.0), each with what was looked for and what to do.
std::unique_ptr<Ops> make_cuda_ops(int index, DType compute);

}  // namespace mor
