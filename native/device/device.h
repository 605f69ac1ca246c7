// Lists the devices and makes the Ops of one: the only place that knows both cpu and cuda.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device_info.h"
#include "distributed/communicator.h"
#include "ops/ops.h"

namespace mor {

/// The CPU, then every GPU that the driver shows, or one entry "cuda" that says why there is none.
std::vector<DeviceInfo> list_devices();

/// device: an id of list_devices(). dtype: float32 or bfloat16. threads: CPU team, 0 = all.
/// Throws INVALID_ARGUMENT for a name that is no device, and the device's `code` for a device that cannot be used, with
/// what was looked for and what to do. It never falls back to another device.
std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads);

/// Throws COMMUNICATION_FAILED if such ranks cannot train together on this device, an id of list_devices(): on CPUs
/// they need MPI.
void check_ranks_fit(const HostRanks& ranks, const std::string& device);

/// What the trainers of all `ranks`, each on such ops, tell each other by: on CPUs `ranks` themselves, on GPUs NCCL,
/// which needs `ranks` to start and to see who is gone. Ranks and ops must outlive it. Waits for the other ranks.
/// Throws what check_ranks_fit and make_nccl_communicator throw.
std::shared_ptr<Communicator> make_communicator(Ops& ops, const std::shared_ptr<HostRanks>& ranks);

/// Seconds that the device behind `ops` takes for the calls that work() makes: on a GPU the time between two events of
/// its stream, on the CPU the time of the clock.
double device_seconds(Ops& ops, const std::function<void()>& work);
/// The cudaStream_t in which all calls to a GPU run; null for the CPU.
void* device_stream(Ops& ops);

}  // namespace mor
