// Stream capture of the host run: a captured call runs at every launch and not before, and calls that CUDA cannot
// capture are refused.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

void add(int* to, int value) {
  to[threadIdx.x] += value;
}

/// A stream, and the graph of its capture.
class Capture : public ::testing::Test {
 protected:
  Capture() { EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess); }
  ~Capture() override {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
    cudaStreamDestroy(stream_);
  }
  void begin() { ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess); }
  void end() {
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable_, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
  }
  cudaError_t launch_add(int* to, int value, unsigned threads = 2) {
    const cudaLaunchConfig_t config{dim3(1), dim3(threads), 0, stream_, nullptr, 0};
    return cudaLaunchKernelEx(&config, add, to, value);
  }
  /// Expects that the call and all calls after it are refused, and that the stream works again after the capture.
  void expect_spoils(const std::function<cudaError_t()>& call) {
    DeviceArray<int> numbers(2);
    begin();
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(launch_add(numbers.data(), 1), cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
    EXPECT_EQ(cudaMemsetAsync(numbers.data(), 0, 8, stream_), cudaSuccess);
    EXPECT_EQ(launch_add(numbers.data(), 1), cudaSuccess);
    EXPECT_EQ(numbers[1], 1);
  }

  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

TEST_F(Capture, HappensAtEveryLaunchInOrderWithTheArgumentsOfItsTime) {
  DeviceArray<int> numbers(2), copy(2);
  int value = 5;
  begin();
  EXPECT_EQ(cudaMemsetAsync(numbers.data(), 0, 4, stream_), cudaSuccess);
  EXPECT_EQ(launch_add(numbers.data(), value), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(copy.data(), numbers.data(), 8, cudaMemcpyDeviceToDevice, stream_), cudaSuccess);
  value = 7;
  end();
  EXPECT_EQ(numbers[0], -1) << "a captured call ran before the launch";
  EXPECT_EQ(numbers[1], -1);
  for (int launches = 1; launches <= 3; ++launches) {
    EXPECT_EQ(cudaGraphLaunch(executable_, stream_), cudaSuccess);
    EXPECT_EQ(copy[0], 5);
    EXPECT_EQ(copy[1], -1 + 5 * launches);
  }
}

TEST_F(Capture, ImpossibleLaunchesAreRefusedAtOnceAndFailingOnesWhenTheyRun) {
  DeviceArray<int> numbers(2);
  begin();
  EXPECT_EQ(launch_add(numbers.data(), 1, 2000), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaMemsetAsync(numbers.data(), 0, 9, stream_), cudaSuccess);
  end();
  EXPECT_EQ(cudaGraphLaunch(executable_, stream_), cudaErrorInvalidValue);
}

TEST_F(Capture, WhatCannotBeCapturedSpoilsIt) {
  DeviceArray<int> numbers(2);
  std::vector<int> host(2);
  expect_spoils([&] { return cudaStreamSynchronize(stream_); });
  expect_spoils([&] { return cudaMemcpyAsync(host.data(), numbers.data(), 8, cudaMemcpyDeviceToHost, stream_); });
  expect_spoils([&] { return cudaMemcpyAsync(numbers.data(), host.data(), 8, cudaMemcpyHostToDevice, stream_); });
  expect_spoils([&] {
    void* pointer = nullptr;
    return cudaMalloc(&pointer, 8);
  });
  expect_spoils([&] { return cudaFree(numbers.data()); });
  expect_spoils([&] {
    void* pointer = nullptr;
    return cudaHostAlloc(&pointer, 8, 0);
  });
  DeviceArray<int> still_there(2);
  EXPECT_EQ(numbers[0], -1);
  begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaErrorIllegalState);
  end();
  expect_spoils([&] { return cudaGraphLaunch(executable_, stream_); });
}

TEST_F(Capture, PinnedMemoryIsReadWhenTheGraphRuns) {
  DeviceArray<int> numbers(1);
  int* pinned = nullptr;
  ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 4, 0), cudaSuccess);
  *pinned = 1;
  begin();
  EXPECT_EQ(cudaMemcpyAsync(numbers.data(), pinned, 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  end();
  *pinned = 2;
  EXPECT_EQ(cudaGraphLaunch(executable_, stream_), cudaSuccess);
  EXPECT_EQ(numbers[0], 2);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

}  // namespace
}  // namespace mor::cuda_host::test
