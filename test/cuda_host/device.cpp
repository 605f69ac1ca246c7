// The device of the host run: CUDA kernels on the execution model, instead of native/device/device.cpp, so that the
// same tests run on them. Must not know of models.
#include "device/device.h"

#include "cuda/cuda_device.h"

namespace mor {

/// Every name means the one device there is.
std::unique_ptr<Ops> make_ops(const std::string&, DType dtype, int) {
  return make_cuda_ops(0, dtype);
}

std::vector<TestDevice> test_devices() {
  return {{"cuda host", {DType::float32, DType::bfloat16}, [](const std::string&, DType dtype) {
             return make_cuda_ops(0, dtype);
           }}};
}

}  // namespace mor
