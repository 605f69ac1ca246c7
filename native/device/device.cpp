// The list of devices and the choice of one.
#include "device/device.h"

#include <charconv>
#include <chrono>
#include <string_view>

#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"

namespace mor {

namespace {

DeviceInfo cpu_device() {
  DeviceInfo info = cpu_info();
  try {
    info.instruction_set = cpu_instruction_set();
  } catch (const Error& error) {
    info.usable = false;
    info.code = error.code();
    info.reason = error.what();
  }
  return info;
}

bool is_gpu(const Ops& ops) {
  return std::string_view(ops.name()) == "cuda";
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices = cuda_devices();
  devices.insert(devices.begin(), cpu_device());
  return devices;
}

std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads) {
  if (device == "cpu") return make_cpu_ops(dtype, threads);
  const std::string prefix = "cuda:";
  if (device.rfind(prefix, 0) == 0) {
    int index = 0;
    const char *begin = device.data() + prefix.size(), *end = device.data() + device.size();
    const auto [last, error] = std::from_chars(begin, end, index);
    if (error == std::errc{} && last == end) return make_cuda_ops(index, dtype);
  }
  MOR_FAIL(INVALID_ARGUMENT, "unknown device '", device, "'; use 'cpu' or 'cuda:<index>'");
}

void check_ranks_fit(const HostRanks& ranks, const std::string& device) {
  MOR_CHECK(device != "cpu" || dynamic_cast<const Communicator*>(&ranks) != nullptr, COMMUNICATION_FAILED,
            "torchrun started this process as rank ", ranks.rank(), " of ", ranks.size(),
            ", but ranks on CPUs need MPI; start them with 'mpirun -n <ranks>' or 'srun'");
}

std::shared_ptr<Communicator> make_communicator(Ops& ops, const std::shared_ptr<HostRanks>& ranks) {
  check_ranks_fit(*ranks, ops.name());
  if (is_gpu(ops)) return make_nccl_communicator(ops, *ranks);
  return std::dynamic_pointer_cast<Communicator>(ranks);
}

double device_seconds(Ops& ops, const std::function<void()>& work) {
  if (device_stream(ops) != nullptr) return cuda_seconds(ops, work);
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void* device_stream(Ops& ops) {
  return is_gpu(ops) ? cuda_stream(ops) : nullptr;
}

}  // namespace mor
