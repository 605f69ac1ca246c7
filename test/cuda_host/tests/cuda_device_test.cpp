// The errors of cuda_device and CudaOps: no driver, an old driver, an old GPU, no memory, a lost device, invalid input
// that only a kernel can see.
#include "cuda/cuda_device.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <vector>

#include "cuda/launch.h"
#include "cuda/tensor_map.h"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda_host::test {
namespace {

/// Every test starts with one usable GPU; after it the machine is reset.
class CudaDevice : public ::testing::Test {
 protected:
  ~CudaDevice() override {
    machine() = {};
    revive_device();
  }
};

void expect_error(ErrorCode code, const std::string& message, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error_code_name(error.code()), error_code_name(code));
    EXPECT_EQ(std::string(error.what()), message);
  }
}

TEST_F(CudaDevice, AGoodOneIsListedAndMade) {
  const std::vector<DeviceInfo> devices = cuda_devices();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_TRUE(devices[0].usable);
  EXPECT_EQ(devices[0].name, "host run");
  EXPECT_EQ(devices[0].compute_capability, "9.0");
  EXPECT_EQ(make_cuda_ops(0, DType::bfloat16)->compute_dtype(), DType::bfloat16);
  expect_error(ErrorCode::INVALID_ARGUMENT, "the CUDA device computes in float32 or bfloat16, not float64",
               [] { make_cuda_ops(0, DType::float64); });
}

/// Expects a list that has only the reason, and that reason for every index.
void expect_none(ErrorCode code, const std::string& reason) {
  const std::vector<DeviceInfo> devices = cuda_devices();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_EQ(devices[0].id, "cuda");
  EXPECT_FALSE(devices[0].usable);
  EXPECT_STREQ(error_code_name(devices[0].code), error_code_name(code));
  EXPECT_EQ(devices[0].reason, reason);
  for (int index : {0, 3})
    expect_error(code, "device 'cuda:" + std::to_string(index) + "' (NVIDIA GPU): " + reason,
                 [=] { make_cuda_ops(index, DType::float32); });
}

TEST_F(CudaDevice, WithoutADriver) {
  machine().driver_version = 0;
  expect_none(ErrorCode::DRIVER_MISSING,
              "no NVIDIA driver was found (looked for libcuda.so.1); install one, or use device: 'cpu'");
}

TEST_F(CudaDevice, AnOldDriverIsNamedWithBothVersions) {
  machine().driver_version = 12040;
  expect_none(ErrorCode::DRIVER_TOO_OLD,
              "the NVIDIA driver supports CUDA 12.4, but 13.0 is needed; install driver 580 or newer, or use device: "
              "'cpu'");
}

TEST_F(CudaDevice, ADriverWithoutAGpu) {
  machine().gpus = 0;
  expect_none(ErrorCode::DEVICE_NOT_FOUND,
              "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES hides those it does not name); use device: 'cpu'");
}

TEST_F(CudaDevice, AnIndexThatIsNotThere) {
  for (int index : {-1, 1})
    expect_error(ErrorCode::DEVICE_NOT_FOUND,
                 "device 'cuda:" + std::to_string(index) + "': there is 1 GPU, numbered from 0",
                 [=] { make_cuda_ops(index, DType::float32); });
}

TEST_F(CudaDevice, AnOldGpuIsListedWithItsReasonAndRefused) {
  machine().compute_capability_major = 7;
  const std::vector<DeviceInfo> devices = cuda_devices();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_FALSE(devices[0].usable);
  EXPECT_EQ(devices[0].reason, "compute capability 7.0, but 8.0 (Ampere) or newer is needed; use device: 'cpu'");
  expect_error(ErrorCode::DEVICE_TOO_OLD,
               "device 'cuda:0' (host run): compute capability 7.0, but 8.0 (Ampere) or newer is needed; use device: "
               "'cpu'",
               [] { make_cuda_ops(0, DType::float32); });
}

TEST_F(CudaDevice, OneThatTheDriverDoesNotGiveIsUnavailableAndNotLost) {
  machine().refuses_contexts = true;
  expect_error(ErrorCode::DEVICE_UNAVAILABLE,
               "cuda:0 cannot be used: cudaSetDevice: CUDA-capable device(s) is/are busy or unavailable; stop the "
               "process that has it for itself, use another GPU, or use device: 'cpu'",
               [] { make_cuda_ops(0, DType::float32); });
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  machine().refuses_contexts = false;
  make_cuda_ops(0, DType::float32);
}

TEST_F(CudaDevice, OneThatTheDriverDoesNotDescribeLeavesNoErrorBehind) {
  machine().describes_gpus = false;
  const std::vector<DeviceInfo> devices = cuda_devices();
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_EQ(devices[0].reason, "the NVIDIA driver does not describe it: invalid argument");
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);  // a sort of another GPU's would fail by it
}

TEST_F(CudaDevice, OutOfMemoryNamesTheSizesAndEndsNothing) {
  machine().memory_bytes = 1000;
  const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
  void* some = ops->allocate(600);
  expect_error(ErrorCode::OUT_OF_MEMORY, "cuda:0 has no 500 bytes in one piece left: 400 of its 1000 bytes are free",
               [&] { ops->allocate(500); });
  ops->zero(some, 600);
  ops->release(some, 600);
  ops->release(ops->allocate(900), 900);
}

TEST_F(CudaDevice, WhatWasCopiedToTheDeviceMayChange) {
  for (bool reads_host_memory : {false, true}) {
    machine().reads_host_memory = reads_host_memory;
    const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
    void* device = ops->allocate(sizeof(int));
    int number = 1, back = 0;
    ops->copy_to_device(device, &number, sizeof number);
    number = 2;
    ops->copy_to_host(&back, device, sizeof back);
    EXPECT_EQ(back, 1) << reads_host_memory;
    ops->release(device, sizeof(int));
  }
}

/// Copies of all sizes, and more of them than there is pinned memory to go through.
TEST_F(CudaDevice, WhatIsCopiedToTheDeviceArrivesAlthoughItsSourceChanges) {
  const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
  constexpr size_t kMebibyte = size_t{1} << 20;
  size_t total = 0;
  const std::vector<size_t> sizes = {1, 63, 64, 100, kMebibyte - 1, kMebibyte + 5, 3 * kMebibyte, 9 * kMebibyte + 3, 7};
  for (const size_t size : sizes) total += size;
  auto* device = static_cast<char*>(ops->allocate(total));
  std::vector<char> source(9 * kMebibyte + 3), back(total);
  const auto value = [](size_t i, size_t copy) { return static_cast<char>(i * 7 + (i >> 11) + copy * 31); };
  size_t at = 0;
  for (size_t copy = 0; copy < sizes.size(); ++copy) {
    for (size_t i = 0; i < sizes[copy]; ++i) source[i] = value(i, copy);
    ops->copy_to_device(device + at, source.data(), sizes[copy]);
    at += sizes[copy];
  }
  ops->copy_to_host(back.data(), device, total);
  at = 0;
  for (size_t copy = 0; copy < sizes.size(); ++copy) {
    size_t wrong = 0;
    for (size_t i = 0; i < sizes[copy]; ++i) wrong += back[at + i] == value(i, copy) ? 0 : 1;
    EXPECT_EQ(wrong, 0u) << "of copy " << copy;
    at += sizes[copy];
  }
  ops->release(device, total);
}

TEST_F(CudaDevice, SmallCopiesToTheDeviceDoNotWaitForItsWork) {
  const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
  const std::vector<char> source(1000, 'x');
  void* device = ops->allocate(source.size());
  const int before = waits();
  for (int i = 0; i < 4000; ++i) ops->copy_to_device(device, source.data(), source.size());
  EXPECT_EQ(waits(), before);
  ops->synchronize();
  EXPECT_EQ(waits(), before + 1);
  ops->release(device, source.size());
}

TEST_F(CudaDevice, AnEmptyAllocationIsMemory) {
  const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
  void* nothing = ops->allocate(0);
  EXPECT_NE(nothing, nullptr);
  ops->release(nothing, 0);
}

void stuck() {
  cuda::wait_for_earlier_kernels();
  if (threadIdx.x == 0) __syncthreads();
}
void fine(int* out) {
  cuda::wait_for_earlier_kernels();
  *out = 1;
}

TEST_F(CudaDevice, AfterAnErrorEverythingThrowsThatError) {
  cuda::Stream stream(0);
  const std::string message =
      "cuda:0 was lost in kernel: deadlock in block (0,0,0): 1 of 32 threads wait for others that never come, 31 have "
      "ended; thread (0,0,0) waits in __syncthreads. It cannot run this model any more; save what you can on the CPU "
      "and "
      "start a new process";
  expect_error(ErrorCode::DEVICE_LOST, message, [&] { cuda::launch(stuck, dim3(1), dim3(32), 0, stream); });
  revive_device();  // even if CUDA works again, the results of this stream cannot be trusted
  int* out = nullptr;
  expect_error(ErrorCode::DEVICE_LOST, message, [&] { cuda::launch(fine, dim3(1), dim3(1), 0, stream, out); });
  expect_error(ErrorCode::DEVICE_LOST, message, [&] { stream.synchronize(); });
}

TEST_F(CudaDevice, ALaunchWithoutMemoryEndsNothing) {
  cuda::Stream stream(0);
  expect_error(ErrorCode::OUT_OF_MEMORY,
               "cuda:0 has no memory left for kernel; stop other programs that use the GPU, or use a smaller batch",
               [&] { stream.check(cudaErrorMemoryAllocation, "kernel"); });
  stream.synchronize();
}

TEST_F(CudaDevice, AnImpossibleLaunchIsAnErrorAndAnEmptyGridIsNoWork) {
  cuda::Stream stream(0);
  cuda::launch(stuck, dim3(0), dim3(32), 0, stream);
  cuda::launch(stuck, dim3(3, 0), dim3(32), 0, stream);
  EXPECT_THROW(cuda::launch(stuck, dim3(1), dim3(2000), 0, stream), Error);
}

TEST_F(CudaDevice, TimesTheWorkOfItsStream) {
  cuda::Stream stream(0);
  bool ran = false;
  const double seconds = stream.seconds([&] {
    for (const auto begin = std::chrono::steady_clock::now();
         std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(5);)
      ran = true;
  });
  EXPECT_TRUE(ran);
  EXPECT_GE(seconds, 0.005);
  EXPECT_LT(seconds, 5);
  EXPECT_THROW(stream.seconds([&] { cuda::launch(stuck, dim3(1), dim3(32), 0, stream); }), Error);
}

TEST_F(CudaDevice, WhatAKernelReportsIsThrownOnceByTheNextWait) {
  const std::unique_ptr<Ops> ops = make_cuda_ops(0, DType::float32);
  std::vector<float> ones(12, 1.0f);
  const std::vector<int32_t> target = {1, 9, 2};
  auto* x = static_cast<float*>(ops->allocate(48));
  auto* device_target = static_cast<int32_t*>(ops->allocate(12));
  auto* losses = static_cast<float*>(ops->allocate(12));
  ops->copy_to_device(x, ones.data(), 48);
  ops->copy_to_device(device_target, target.data(), 12);
  const Tensor rows = make_tensor(x, DType::float32, 3, 4, "x");
  ops->cross_entropy_forward(rows, rows, device_target, make_vector(losses, DType::float32, 3, "losses"));
  expect_error(ErrorCode::TOKEN_OUT_OF_RANGE,
               "cross_entropy: target 9 of row 1 is outside the vocabulary of 3 (-1 means: ignore this row)",
               [&] { ops->synchronize(); });
  ops->synchronize();
  ops->copy_to_host(ones.data(), losses, 12);
  EXPECT_NEAR(ones[0], 1.0986123, 1e-6);
  ops->release(x, 48);
  ops->release(device_target, 12);
  ops->release(losses, 12);
}

TEST_F(CudaDevice, TensorMapsThatTheDriverRefuses) {
  cuda::Stream stream(0);
  expect_error(ErrorCode::INTERNAL,
               "the driver makes no tensor map of 8 x 12 elements, 24 bytes apart, in boxes of 8 rows: error 1", [&] {
                 cuda::tensor_map(stream, nullptr, 12, {{8, 12, 8}});
               });
  expect_error(ErrorCode::INTERNAL,
               "the driver makes no tensor map of 512 x 16 elements, 32 bytes apart, in boxes of 512 rows: error 1",
               [&] {
                 cuda::tensor_map(stream, nullptr, 16, {{512, 16, 512}});
               });
}

}  // namespace
}  // namespace mor::cuda_host::test
