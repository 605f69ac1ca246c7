// Lists the devices and makes the Ops of one: the only place that knows both cpu and cuda.
// Must not know of models.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct DeviceInfo {
  std::string id;    ///< "cpu", "cuda:0"
  std::string type;  ///< "cpu" or "cuda"
  std::string name;
  bool usable = true;
  std::string reason;  ///< why not, for an unusable one
  size_t memory_bytes = 0;
  int threads = 0;  ///< CPU only
  std::vector<std::string> features;
};

std::vector<DeviceInfo> list_devices();

/// device: "auto" (the best usable), "cpu", "cuda" or "cuda:1". dtype: float32 or bfloat16. threads: CPU team, 0 = all.
/// Throws DEVICE_UNAVAILABLE with what was looked for and what to do; never falls back from a named device.
std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads);

/// Every (device, instruction set) of this machine, for tests that compare them.
struct TestDevice {
  std::string name;
  std::vector<DType> dtypes;
  std::unique_ptr<Ops> (*make_named)(const std::string& name, DType dtype);
  std::unique_ptr<Ops> make(DType dtype) const { return make_named(name, dtype); }
};
std::vector<TestDevice> test_devices();

}  // namespace mor
