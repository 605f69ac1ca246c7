// Kernels that start before the one in front of them has ended: which launches are such, and what is an error in them.
// Accesses before the wait are found by the race detector (race_test.cpp).
#include "cuda/tile/earlier_kernels.cuh"

#include "core/check.h"
#include "cuda/launch.h"
#include "cuda/tile/async_copy.cuh"
#include "cuda/tile/shared.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

void copy_word(int* to, const int* from, bool waits) {
  if (waits) cuda::wait_for_earlier_kernels();
  to[threadIdx.x] = from[threadIdx.x];
}

/// Launches as ops do; returns the text of the error.
std::string launch(bool waits) {
  const DeviceArray<int> from(64), to(64);
  cuda::Stream stream(0);
  std::string text;
  try {
    cuda::launch(copy_word, dim3(1), dim3(64), 0, stream, to.data(), from.data(), waits);
  } catch (const Error& error) {
    text = error.what();
  }
  revive_device();
  return text;
}

TEST(EarlierKernels, KernelsOfOpsStartEarlyAndMustWait) {
  EXPECT_EQ(launch(true), "");
  EXPECT_NE(launch(false).find("a thread has ended before wait_for_earlier_kernels"), std::string::npos);
}

TEST(EarlierKernels, NoneStartsEarlyBeforeComputeCapability9) {
  machine().compute_capability_major = 8;
  EXPECT_EQ(launch(false), "");
  machine().compute_capability_major = 9;
}

void some_wait() {
  if (threadIdx.x < 32) cuda::wait_for_earlier_kernels();
}

TEST(EarlierKernels, EveryThreadWaits) {
  EXPECT_NE(run_early(some_wait, dim3(1), dim3(64), 0).find("thread (32,0,0)"), std::string::npos);
}

void copy_chunk(const int* from, bool waits) {
  if (waits) cuda::wait_for_earlier_kernels();
  cuda::async_copy16(cuda::dynamic_shared<int>(), from, 16);
  cuda::async_copy_commit();
  cuda::async_copy_wait<0>();
  cuda::wait_for_earlier_kernels();
}

TEST(EarlierKernels, ACopyBeforeTheWaitIsAnError) {
  const DeviceArray<int> from(4);
  EXPECT_EQ(run_early(copy_chunk, dim3(1), dim3(1), 16, from.data(), true), "");
  EXPECT_EQ(run_early(copy_chunk, dim3(1), dim3(1), 16, from.data(), false).find("cp.async before"), 0u);
}

void prefetch(const char* from, uint32_t bytes) {
  cuda::prefetch_to_l2(from, bytes);
  cuda::wait_for_earlier_kernels();
}

TEST(EarlierKernels, PrefetchingBeforeTheWaitIsAllowedInsideAnAllocation) {
  const DeviceArray<char> from(64);
  const auto error = [&](int offset, uint32_t bytes) {
    return run_early(prefetch, dim3(1), dim3(1), 0, from.data() + offset, bytes);
  };
  EXPECT_EQ(error(16, 48), "");
  EXPECT_NE(error(16, 64).find("one allocation"), std::string::npos);
  EXPECT_NE(error(8, 16).find("multiple of 16"), std::string::npos);
  EXPECT_NE(error(16, 8).find("multiple of 16"), std::string::npos);
}

}  // namespace
}  // namespace mor::cuda_host::test
