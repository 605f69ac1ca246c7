// Lists the devices and makes the Ops of one: the only place that knows both cpu and cuda.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct DeviceInfo {
  std::string id;    ///< "cpu", "cuda:0"; "cuda" where no GPU can be listed, to say why
  std::string type;  ///< "cpu" or "cuda"
  std::string name;
  bool usable = true;
  ErrorCode code = ErrorCode::INTERNAL;  ///< of an unusable device: the code of the error that make_ops throws
  std::string reason;                    ///< of an unusable device: why, and what to do
  size_t memory_bytes = 0;
  int threads = 0;              ///< CPU only
  std::string instruction_set;  ///< of a usable CPU: the set that kernels use
  std::vector<std::string> features;
  std::string compute_capability;  ///< GPUs only, "9.0"
};

/// The CPU, then every GPU that the driver shows, or one entry "cuda" that says why there is none.
std::vector<DeviceInfo> list_devices();

/// device: an id of list_devices(). dtype: float32 or bfloat16. threads: CPU team, 0 = all.
/// Throws INVALID_ARGUMENT for a name that is no device, and the device's `code` for a device that cannot be used, with
/// what was looked for and what to do. It never falls back to another device.
std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads);

/// Seconds that the device behind `ops` takes for the calls that work() makes: on a GPU the time between two events of
/// its stream, on the CPU the time of the clock.
double device_seconds(Ops& ops, const std::function<void()>& work);
/// The cudaStream_t in which all calls to a GPU run; null for the CPU.
void* device_stream(Ops& ops);

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
  std::vector<TestDevice> devices = test_devices();
  std::erase_if(devices, [&](const TestDevice& device) {
    return std::find(device.dtypes.begin(), device.dtypes.end(), dtype) == device.dtypes.end();
  });
  return devices;
}

}  // namespace mor
