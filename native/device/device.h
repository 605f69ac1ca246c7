// Lists the devices and makes the Ops of one: the only place that knows both cpu and cuda.
// Must not know of models.
#pragma once

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
  ErrorCode code = ErrorCode::INTERNAL;  ///< of what using an unusable one throws
  std::string reason;                    ///< why not, and what to do, for an unusable one
  size_t memory_bytes = 0;
  int threads = 0;  ///< CPU only
  std::vector<std::string> features;
  std::string compute_capability;  ///< GPUs only, "9.0"
};

/// The CPU, then every GPU that the driver shows, or one entry "cuda" that says why there is none.
std::vector<DeviceInfo> list_devices();

/// device: an id of list_devices(). dtype: float32 or bfloat16. threads: CPU team, 0 = all.
/// Throws INVALID_ARGUMENT for a name that is no device, and for one that cannot be used its `code`, with what was
/// looked for and what to do; never falls back.
std::unique_ptr<Ops> make_ops(const std::string& device, DType dtype, int threads);

/// Seconds that the device of make_ops spends on what work() asks of it: on a GPU between two events of its stream, on
/// the CPU by the clock.
double device_seconds(Ops& ops, const std::function<void()>& work);
/// The cudaStream_t that all work of a GPU goes through; null for the CPU.
void* device_stream(Ops& ops);

/// A (device, instruction set) of this machine, for tests that compare them.
struct TestDevice {
  std::string name;
  std::vector<DType> dtypes;
  std::unique_ptr<Ops> (*make_named)(const std::string& name, DType dtype);
  std::unique_ptr<Ops> make(DType dtype) const { return make_named(name, dtype); }
};
/// All whose name begins with what the environment says by MOR_TEST_DEVICES: "cuda" leaves the CPU out.
std::vector<TestDevice> test_devices();

}  // namespace mor
