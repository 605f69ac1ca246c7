// The device list of the host run, in place of native/device/device.cpp and test/test_devices.cpp: its one device runs
// the CUDA kernels on the execution model, so that the same tests run on them.
#include "device/device.h"

#include "cuda/cuda_device.h"
#include "test/test_devices.h"

namespace mor {

/// Every name stands for the one device.
std::unique_ptr<Ops> make_ops(const std::string&, DType dtype, int) {
  return make_cuda_ops(0, dtype);
}

std::vector<TestDevice> test_devices() {
  return {{"cuda host", {DType::float32, DType::bfloat16}, [](const std::string&, DType dtype) {
             return make_cuda_ops(0, dtype);
           }}};
}

}  // namespace mor
