// The GPUs of this machine, whether they can be used, and the Ops of one. Must not include a CUDA header, because files
// that are compiled without CUDA include this one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct CudaInfo {
  int index = 0;  ///< CUDA's number, after CUDA_VISIBLE_DEVICES; -1: no GPU can be listed, and `reason` says why
  std::string name;
  size_t memory_bytes = 0;
  std::string compute_capability;  ///< "9.0"
  bool usable = true;
  ErrorCode code = ErrorCode::INTERNAL;  ///< of the error that using an unusable GPU throws
  std::string reason;                    ///< why an unusable GPU cannot be used, and what to do
};

/// Every GPU that the driver shows, usable or not. If it shows none (no driver, a driver that is too old, no GPU),
/// there is one unusable entry with index -1.
std::vector<CudaInfo> cuda_devices();

/// compute: float32 or bfloat16. Throws DRIVER_MISSING, DRIVER_TOO_OLD, DEVICE_NOT_FOUND (no such index),
/// DEVICE_TOO_OLD (compute capability below 8.0) or DEVICE_UNAVAILABLE (the driver refuses), each with what was looked
/// for and what to do.
std::unique_ptr<Ops> make_cuda_ops(int index, DType compute);

/// The seconds that the device takes for what work() puts into the stream of `ops`, which make_cuda_ops made; waits.
double cuda_seconds(Ops& ops, const std::function<void()>& work);
/// The stream of such ops, a cudaStream_t.
void* cuda_stream(Ops& ops);

}  // namespace mor
