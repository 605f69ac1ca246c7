// The devices on which tests run.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

/// One device of this machine with one instruction set, for tests that compare them.
struct TestDevice {
  std::string name;
  std::vector<DType> dtypes;
  std::unique_ptr<Ops> (*make_named)(const std::string& name, DType dtype);
  std::unique_ptr<Ops> make(DType dtype) const { return make_named(name, dtype); }
};
/// All devices whose name begins with the environment variable MOR_TEST_DEVICES: "cuda" leaves the CPU out.
std::vector<TestDevice> test_devices();
/// Those whose kernels in `dtype` are not those of another device in the list.
inline std::vector<TestDevice> test_devices(DType dtype) {
  std::vector<TestDevice> devices;
  for (const TestDevice& device : test_devices())
    if (std::find(device.dtypes.begin(), device.dtypes.end(), dtype) != device.dtypes.end()) devices.push_back(device);
  return devices;
}

}  // namespace mor
