// The devices of this machine, each CPU instruction set as one of them.
#include "test/test_devices.h"

#include <cstdlib>

#include "cpu/cpu_device.h"
#include "device/device.h"

namespace mor {

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
  if (const char* only = std::getenv("MOR_TEST_DEVICES"))
    std::erase_if(devices, [&](const TestDevice& device) { return device.name.rfind(only, 0) != 0; });
  return devices;
}

}  // namespace mor
