// Runs a test's kernel on the execution model.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <string>

namespace mor::cuda_host::test {

/// Launches the kernel and returns the text of the error, or "" if there is none. A lost device is made usable again.
template <class... Parameters, class... Arguments>
std::string run(const cudaLaunchConfig_t& config, void (*kernel)(Parameters...), Arguments... arguments) {
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, arguments...);
  const std::string text = status == cudaSuccess ? "" : cudaGetErrorString(status);
  revive_device();
  return text;
}
template <class... Parameters, class... Arguments>
std::string run(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Arguments... arguments) {
  return run({grid, block, shared, nullptr, nullptr, 0}, kernel, arguments...);
}

/// The same for a launch that may start before the kernel in front of it has ended.
template <class... Parameters, class... Arguments>
std::string run_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Arguments... arguments) {
  cudaLaunchAttribute early{cudaLaunchAttributeProgrammaticStreamSerialization, {1}};
  return run({grid, block, shared, nullptr, &early, 1}, kernel, arguments...);
}

/// n elements of device memory.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n) : n_(n) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), n * sizeof(T)), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* data() const { return data_; }
  T operator[](size_t i) const {
    T value{};
    EXPECT_LT(i, n_);
    EXPECT_EQ(cudaMemcpyAsync(&value, data_ + i, sizeof(T), cudaMemcpyDeviceToHost, nullptr), cudaSuccess);
    return value;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

}  // namespace mor::cuda_host::test
