// The GPUs of this machine, whether they can be used, and the Ops of one. Must not include a CUDA header, because files
// that are compiled without CUDA include this one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/device_info.h"
#include "distributed/communicator.h"
#include "ops/ops.h"

namespace mor {

/// Every GPU that the driver shows, usable or not, under the indices that CUDA_VISIBLE_DEVICES leaves. If it shows none
/// (no driver, a driver that is too old, no GPU), there is one unusable entry "cuda".
std::vector<DeviceInfo> cuda_devices();

inline DeviceInfo unusable_gpu(std::string id, ErrorCode code, std::string reason) {
  DeviceInfo info;
  info.id = std::move(id);
  info.type = "cuda";
  info.name = "NVIDIA GPU";
  info.usable = false;
  info.code = code;
  info.reason = std::move(reason);
  return info;
}

/// compute: float32 or bfloat16. Throws DRIVER_MISSING, DRIVER_TOO_OLD, DEVICE_NOT_FOUND (no such index),
/// DEVICE_TOO_OLD (compute capability below 8.0) or DEVICE_UNAVAILABLE (the driver refuses), each with what was looked
/// for and what to do.
std::unique_ptr<Ops> make_cuda_ops(int index, DType compute);

/// The seconds that the device takes for what work() puts into the stream of `ops`, which make_cuda_ops made; waits.
double cuda_seconds(Ops& ops, const std::function<void()>& work);
/// The stream of such ops, a cudaStream_t.
void* cuda_stream(Ops& ops);

/// A communicator over NCCL between such ops of all ranks of `host`, which gathers for it and must outlive it, as the
/// ops must. A wait() lets the host wait for the GPU, and looks meanwhile whether all ranks of `host` are present.
/// Waits for the other ranks. Throws COMMUNICATION_FAILED on every rank if one has no libnccl.so.2, or if NCCL fails.
std::unique_ptr<Communicator> make_nccl_communicator(Ops& ops, HostRanks& host);

}  // namespace mor
