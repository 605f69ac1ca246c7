// Memory of the host run: errors that AddressSanitizer must find, and copies that are refused.
#include <vector>

#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

void write_at(char* memory, int i) {
  memory[i] = 1;
}
void write_dynamic_shared_at(int i) {
  static_cast<char*>(dynamic_shared_memory())[i] = 1;
}
void write_static_shared_at(int i) {
  __shared__ char bytes[10];
  char* start = bytes;
  start[i] = 1;
}
void write_own_stack_at(int i) {
  volatile char bytes[10] = {};
  volatile char* start = bytes;
  start[i] = 1;
}

TEST(Memory, WithinBoundsIsFine) {
  DeviceArray<char> memory(100);
  EXPECT_EQ(run(write_at, dim3(1), dim3(1), 0, memory.data(), 99), "");
  EXPECT_EQ(memory[99], 1);
  EXPECT_EQ(run(write_dynamic_shared_at, dim3(1), dim3(1), 100, 99), "");
  EXPECT_EQ(run(write_static_shared_at, dim3(1), dim3(1), 0, 9), "");
}

TEST(MemoryDeathTest, OverrunsAreFound) {
  DeviceArray<char> memory(100);
  EXPECT_DEATH(run(write_at, dim3(1), dim3(1), 0, memory.data(), 100), "AddressSanitizer: heap-buffer-overflow");
  EXPECT_DEATH(run(write_dynamic_shared_at, dim3(1), dim3(1), 100, 100), "AddressSanitizer: heap-buffer-overflow");
  EXPECT_DEATH(run(write_static_shared_at, dim3(1), dim3(1), 0, 10), "global-buffer-overflow|insufficient space");
  EXPECT_DEATH(run(write_own_stack_at, dim3(1), dim3(1), 0, 10), "stack-buffer-overflow|insufficient space");
}

TEST(MemoryDeathTest, TheHostCannotTouchDeviceMemory) {
  DeviceArray<char> memory(100);
  EXPECT_DEATH(memory.data()[50] = 1, "AddressSanitizer: use-after-poison");
}

TEST(Memory, CopiesCheckTheirDirectionAndBounds) {
  DeviceArray<char> memory(100);
  std::vector<char> host(200);
  const auto copy = [](void* to, const void* from, size_t n, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, n, kind, nullptr);
  };
  EXPECT_EQ(copy(memory.data(), host.data(), 100, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(copy(memory.data(), host.data(), 101, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(host.data(), memory.data() + 1, 100, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(copy(host.data(), memory.data(), 100, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(copy(memory.data(), host.data(), 100, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemsetAsync(memory.data(), 0, 101, nullptr), cudaErrorInvalidValue);
}

TEST(Memory, PinnedMemoryMustNotChangeBeforeItsCopyIsWaitedFor) {
  DeviceArray<char> memory(2);
  char* pinned = nullptr;
  ASSERT_EQ(cudaHostAlloc(reinterpret_cast<void**>(&pinned), 2, cudaHostAllocDefault), cudaSuccess);
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess) << "it was never recorded";
  for (const bool behind : {true, false}) {
    ASSERT_EQ(cudaMemcpyAsync(memory.data(), pinned, 1, cudaMemcpyHostToDevice, nullptr), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event, nullptr), cudaSuccess);
    if (behind) {
      EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
    }
    ASSERT_EQ(cudaMemcpyAsync(memory.data() + 1, pinned + 1, 1, cudaMemcpyHostToDevice, nullptr), cudaSuccess);
    ++pinned[0];
    EXPECT_EQ(cudaStreamSynchronize(nullptr), behind ? cudaSuccess : cudaErrorLaunchFailure);
    revive_device();
  }
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST(Memory, NewMemoryIsGarbageAndEnds) {
  DeviceArray<unsigned char> memory(3);
  EXPECT_EQ(memory[2], 0xff);
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, size_t{1} << 50), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaFree(&pointer), cudaErrorInvalidValue);
}

/// Copies 8 numbers and reads them before and after it waits.
void async_copy(const int* in, int* out) {
  int* shared = static_cast<int*>(dynamic_shared_memory());
  begin_async_copy({shared, in, 16, 16});
  commit_async_copies();
  begin_async_copy({shared + 4, in + 4, 16, 8});
  commit_async_copies();
  out[0] = shared[0];
  wait_async_copies(1);
  out[1] = shared[3];
  out[2] = shared[4];
  wait_async_copies(0);
  out[3] = shared[5];
  out[4] = shared[6];
}

TEST(Memory, AsyncCopiesHappenWhenTheyAreWaitedFor) {
  DeviceArray<int> in(8), out(5);
  const std::vector<int> values = {1, 2, 3, 4, 5, 6, 7, 8};
  cudaMemcpyAsync(in.data(), values.data(), 32, cudaMemcpyHostToDevice, nullptr);
  EXPECT_EQ(run(async_copy, dim3(1), dim3(1), 32, static_cast<const int*>(in.data()), out.data()), "");
  EXPECT_EQ(out[0], -1);
  EXPECT_EQ(out[1], 4);
  EXPECT_EQ(out[2], -1);
  EXPECT_EQ(out[3], 6);
  EXPECT_EQ(out[4], 0);
}

}  // namespace
}  // namespace mor::cuda_host::test
