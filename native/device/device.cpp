// The list of devices and the choice of one. Must not know of models.
#include "device/device.h"

#include "cpu/cpu_device.h"

namespace mor {

std::vector<DeviceInfo> list_devices() {
  const CpuInfo cpu = cpu_info();
  DeviceInfo info;
  info.id = info.type = "cpu";
  info.name = cpu.name;
  info.memory_bytes = cpu.memory_bytes;
  info.threads = cpu.threads;
  info.features = cpu.features;
  return {info};
}

std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads) {
  if (device == "auto" || device == "cpu") return make_cpu_ops(dtype, threads);
  MOR_CHECK(device != "cuda" && device.rfind("cuda:", 0) != 0, DEVICE_UNAVAILABLE, "device '", device,
            "' was asked for, but this build has no CUDA device; use device: 'cpu'");
  MOR_FAIL(INVALID_ARGUMENT, "unknown device '", device, "'; use 'auto', 'cpu', 'cuda' or 'cuda:<index>'");
}

std::vector<TestDevice> test_devices() {
  std::vector<TestDevice> devices;
  for (const std::string& isa : cpu_instruction_sets())
    devices.push_back({"cpu " + isa, {DType::float32, DType::bfloat16}, [](const std::string& name, DType dtype) {
                         return make_cpu_ops(dtype, 0, name.substr(4));
                       }});
  return devices;
}

}  // namespace mor
