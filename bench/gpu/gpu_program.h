// What the programs that measure a GPU without the device of this package share: their options, device memory, times,
// and findings, which bench/gpu/findings.ts reads.
#pragma once

#include <cuda_runtime.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "bench/lib/case_lines.h"

namespace mor::bench {

/// Throws DEVICE_LOST if the device can do nothing more in this process, else INTERNAL. what: the call.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  const bool lost = cudaDeviceSynchronize() != cudaSuccess;
  MOR_CHECK(!lost, DEVICE_LOST, what, ": ", cudaGetErrorString(status));
  MOR_FAIL(INTERNAL, what, ": ", cudaGetErrorString(status));
}

/// Checks the launch before it, and waits for the kernel.
inline void check_kernel(const char* name) {
  check_cuda(cudaGetLastError(), name);
  check_cuda(cudaDeviceSynchronize(), name);
}

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    check_cuda(cudaMalloc(&data_, count * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    check_cuda(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    // The copy may return before the device has the bytes, and the stream of a Timer does not wait for it.
    check_cuda(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  size_t count() const { return count_; }
  std::vector<T> values() const {
    std::vector<T> host(count_);
    check_cuda(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return host;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

/// The stream of all work, and the events around it.
class Timer {
 public:
  Timer() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check_cuda(cudaEventCreate(&begin_), "cudaEventCreate");
    check_cuda(cudaEventCreate(&end_), "cudaEventCreate");
  }
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// Seconds that the device takes for what work() puts into the stream, one value for each sample; warms up first.
  template <class Work>
  std::vector<double> seconds(int samples, const Work& work) {
    std::vector<double> values;
    for (int i = 0; i <= samples; ++i) {
      check_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord");
      work();
      check_cuda(cudaGetLastError(), "a launch");
      check_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord");
      check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
      float milliseconds = 0;
      check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
      if (i > 0) values.push_back(1e-3 * static_cast<double>(milliseconds));
    }
    return values;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// The command line `--device cuda:N --samples S --first I`.
struct GpuOptions {
  int samples = 5;
  int first = 0;  ///< how many cases to leave out

  /// Makes the device current.
  GpuOptions(int argc, char** argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
      const std::string name = argv[i], value = argv[i + 1];
      if (name == "--device")
        device_ = std::atoi(value.substr(value.find(':') + 1).c_str());
      else if (name == "--samples")
        samples = std::atoi(value.c_str());
      else if (name == "--first")
        first = std::atoi(value.c_str());
    }
    MOR_CHECK(samples >= 1 && first >= 0, INVALID_ARGUMENT, "--samples is ", samples, " and --first is ", first,
              "; they must be at least 1 and 0");
    check_cuda(cudaSetDevice(device_), "cudaSetDevice");
    check_cuda(cudaGetDeviceProperties(&properties_, device_), "cudaGetDeviceProperties");
  }
  int device() const { return device_; }
  const cudaDeviceProp& gpu() const { return properties_; }

 private:
  int device_ = 0;
  cudaDeviceProp properties_{};
};

inline void print_figure(const std::string& name, const std::vector<double>& values, const char* unit,
                         const std::string& note = "") {
  print_line("{\"figure\":" + json_string(name) + ",\"values\":" + json_numbers(values) + ",\"unit\":\"" + unit +
             "\",\"note\":" + json_string(note) + "}");
}

/// json: the value.
inline void print_fact(const std::string& name, const std::string& json) {
  print_line("{\"fact\":" + json_string(name) + ",\"value\":" + json + "}");
}

/// amount / seconds, for each sample.
inline std::vector<double> rates(double amount, const std::vector<double>& seconds) {
  std::vector<double> values;
  for (const double s : seconds) values.push_back(amount / s);
  return values;
}

/// Runs the cases from options.first on; the exit status of the program.
inline int run_cases(const GpuOptions& options,
                     const std::vector<std::pair<std::string, std::function<void()>>>& cases) {
  bool ok = true;
  for (size_t i = static_cast<size_t>(options.first); i < cases.size(); ++i)
    ok &= run_case(cases[i].first, cases[i].second);
  return ok ? 0 : 1;
}

}  // namespace mor::bench
