// The list of devices and the choice of one.
#include "device/device.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>

#include "cpu/cpu_device.h"
#include "cuda/cuda_device.h"

namespace mor {

namespace {

DeviceInfo cpu_device() {
  const CpuInfo cpu = cpu_info();
  DeviceInfo info;
  info.id = info.type = "cpu";
  info.name = cpu.name;
  info.memory_bytes = cpu.memory_bytes;
  info.threads = cpu.threads;
  info.features = cpu.features;
  try {
    info.instruction_set = cpu_instruction_set();
  } catch (const Error& error) {
    info.usable = false;
    info.code = error.code();
    info.reason = error.what();
  }
  return info;
}

DeviceInfo cuda_device(const CudaInfo& gpu) {
  DeviceInfo info;
  info.id = gpu.index < 0 ? "cuda" : concat("cuda:", gpu.index);
  info.type = "cuda";
  info.name = gpu.name;
  info.usable = gpu.usable;
  info.code = gpu.code;
  info.reason = gpu.reason;
  info.memory_bytes = gpu.memory_bytes;
  info.compute_capability = gpu.compute_capability;
  return info;
}

}  // namespace

std::vector<DeviceInfo> list_devices() {
  std::vector<DeviceInfo> devices{cpu_device()};
  for (const CudaInfo& gpu : cuda_devices()) devices.push_back(cuda_device(gpu));
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

double device_seconds(Ops& ops, const std::function<void()>& work) {
  if (device_stream(ops) != nullptr) return cuda_seconds(ops, work);
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void* device_stream(Ops& ops) {
  return std::string_view(ops.name()) == "cuda" ? cuda_stream(ops) : nullptr;
}

std::vector<TestDevice> test_devices() {
  std::vector<TestDevice> devices;
  for (const std::string& set : cpu_instruction_sets()) {
    std::vector<DType> dtypes{DType::bfloat16};
    if (set != "amx") dtypes.push_back(DType::float32);  // with tiles, float32 is that of avx512_bf16
    devices.push_back({"cpu " + set, dtypes,
                       [](const std::string& name, DType dtype) { return make_cpu_ops(dtype, 0, name.substr(4)); }});
  }
  for (const DeviceInfo& info : list_devices())
    if (info.type == "cuda" && info.usable)
      devices.push_back({info.id, {DType::float32, DType::bfloat16}, [](const std::string& name, DType dtype) {
                           return make_ops(name, dtype, 0);
                         }});
  const char* only = std::getenv("MOR_TEST_DEVICES");
  if (only != nullptr)
    devices.erase(std::remove_if(devices.begin(), devices.end(),
                                 [&](const TestDevice& device) { return device.name.rfind(only, 0) != 0; }),
                  devices.end());
  return devices;
}

}  // namespace mor
