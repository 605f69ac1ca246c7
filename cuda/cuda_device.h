// Which GPUs there are, whether they can be used, and how to compute on one. Knows no CUDA header, so that everybody
// may include it. Must not know of ops' implementations.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct CudaInfo {
  int index = 0;  ///< as CUDA counts, after CUDA_VISIBLE_DEVICES; -1: no GPU can be listed, and `reason` says why
  std::string name;
  size_t memory_bytes = 0;
  std::string compute_capability;  ///< "9.0"
  bool usable = true;
  ErrorCode code = ErrorCode::INTERNAL;  ///< of what using an unusable one throws
  std::string reason;                    ///< why not, and what to do, for an unusable one
};

/// Every GPU that the driver shows, usable or not. Where it shows none (no driver, one too old, no GPU), one unusable
/// entry with index -1.
std::vector<CudaInfo> cuda_devices();

/// compute: float32 or bfloat16. Throws DRIVER_MISSING, DRIVER_TOO_OLD, DEVICE_NOT_FOUND (no such index),
/// DEVICE_TOO_OLD (compute capability below 8.0) or DEVICE_UNAVAILABLE (the driver refuses), each with what was looked
/// for and what to do.
std::unique_ptr<Ops> make_cuda_ops(int index, DType compute);

/// Of Ops that make_cuda_ops made: the seconds that the device takes for what work() puts into its stream, and that
/// stream, a cudaStream_t.
double cuda_seconds(Ops& ops, const std::function<void()>& work);
void* cuda_stream(Ops& ops);

}  // namespace mor
