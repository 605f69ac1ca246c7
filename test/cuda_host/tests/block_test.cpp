// Blocks, barriers and shared memory of the execution model, and the errors that would make a GPU hang.
#include <numeric>

#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

void number_threads(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(block * 1000 + thread);
}

TEST(Block, EveryThreadOfEveryBlockRunsOnce) {
  DeviceArray<int> out(12 * 30);
  EXPECT_EQ(run(number_threads, dim3(2, 3, 2), dim3(5, 3, 2), 0, out.data()), "");
  for (size_t block = 0; block < 12; ++block)
    for (size_t thread = 0; thread < 30; ++thread)
      ASSERT_EQ(out[block * 30 + thread], static_cast<int>(block * 1000 + thread));
}

/// Sums 0 .. n - 1 as a tree, in dynamic and in static shared memory.
void tree_sum(int* out) {
  __shared__ int fixed[64];
  int* dynamic = static_cast<int*>(dynamic_shared_memory());
  const unsigned t = threadIdx.x;
  fixed[t] = dynamic[t] = static_cast<int>(t);
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) {
      fixed[t] += fixed[t + half];
      dynamic[t] += dynamic[t + half];
    }
  }
  __syncthreads();
  if (t == blockDim.x - 1) {
    out[2 * blockIdx.x] = fixed[0];
    out[2 * blockIdx.x + 1] = dynamic[0];
  }
}

TEST(Block, BarriersOrderSharedMemory) {
  DeviceArray<int> out(6);
  EXPECT_EQ(run(tree_sum, dim3(3), dim3(64), 64 * sizeof(int), out.data()), "");
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(out[i], 63 * 64 / 2);
}

void read_neighbour_without_a_barrier(int* out) {
  int* shared = static_cast<int*>(dynamic_shared_memory());
  const unsigned t = threadIdx.x, n = blockDim.x;
  shared[t] = static_cast<int>(t);
  out[blockIdx.x * n + t] = shared[(t + n - 1) % n];  // in rising order the thread before has written already
}

TEST(Block, AMissingBarrierShowsInOneBlockOrTheNext) {
  DeviceArray<int> out(64);
  EXPECT_EQ(run(read_neighbour_without_a_barrier, dim3(2), dim3(32), 32 * sizeof(int), out.data()), "");
  int wrong = 0;
  for (size_t i = 0; i < 64; ++i) wrong += out[i] != static_cast<int>((i + 31) % 32);
  EXPECT_GT(wrong, 30);
}

void read_unwritten(int* out) {
  int* shared = static_cast<int*>(dynamic_shared_memory());
  out[blockIdx.x] = shared[0];
  shared[0] = 1;
}

TEST(Block, SharedMemoryStartsAsGarbage) {
  DeviceArray<int> out(2);
  EXPECT_EQ(run(read_unwritten, dim3(2), dim3(1), 4, out.data()), "");
  EXPECT_EQ(out[0], -1);
  EXPECT_EQ(out[1], -1);
}

void half_waits() {
  if (threadIdx.x < 16) __syncthreads();
}
void half_waits_and_half_waits_elsewhere() {
  if (threadIdx.x < 32)
    barrier_sync(1, 64, "barrier 1");
  else
    __syncthreads();
}

TEST(Block, ABarrierThatSomeNeverReachIsADeadlock) {
  EXPECT_EQ(
      run(half_waits, dim3(1), dim3(48), 0),
      "deadlock in block (0,0,0): 16 of 48 threads wait for others that never come, 32 have ended; thread (0,0,0) "
      "waits in __syncthreads");
  EXPECT_NE(run(half_waits_and_half_waits_elsewhere, dim3(1), dim3(64), 0).find("deadlock"), std::string::npos);
}

/// Counts its instances: every one must be destroyed when a block is abandoned.
struct Counted {
  static int alive;
  Counted() { ++alive; }
  ~Counted() { --alive; }
};
int Counted::alive = 0;
void waits_holding_something() {
  const Counted counted;
  if (threadIdx.x != 7) __syncthreads();
}

TEST(Block, StacksAreUnwoundAfterADeadlock) {
  EXPECT_NE(run(waits_holding_something, dim3(1), dim3(32), 0), "");
  EXPECT_EQ(Counted::alive, 0);
  DeviceArray<int> out(6);
  EXPECT_EQ(run(tree_sum, dim3(3), dim3(64), 64 * sizeof(int), out.data()), "") << "the threads must be usable again";
  EXPECT_EQ(out[0], 63 * 64 / 2);
}

void traps() {
  if (threadIdx.x == 3) __trap();
}

TEST(Block, ATrapNamesItsThread) {
  EXPECT_EQ(run(traps, dim3(1), dim3(8), 0), "__trap (block (0,0,0), thread (3,0,0))");
}

void named_barriers(int* out) {
  __shared__ int word[2];
  const unsigned half = threadIdx.x / 32;
  if (threadIdx.x % 32 == 5) word[half] = static_cast<int>(half) + 10;
  barrier_sync(1 + static_cast<int>(half), 32, "bar.sync");
  out[threadIdx.x] = word[half];
}

TEST(Block, NamedBarriersHoldTheirOwnThreads) {
  DeviceArray<int> out(64);
  EXPECT_EQ(run(named_barriers, dim3(1), dim3(64), 0, out.data()), "");
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(out[i], static_cast<int>(i / 32) + 10);
}

void count_up(int* counter, unsigned long long* largest) {
  atomicAdd(counter, 2);
  atomicMax(largest, 1ull << threadIdx.x);
}

TEST(Block, Atomics) {
  DeviceArray<int> counter(1);
  DeviceArray<unsigned long long> largest(1);
  cudaMemsetAsync(counter.data(), 0, 4, nullptr);
  cudaMemsetAsync(largest.data(), 0, 8, nullptr);
  EXPECT_EQ(run(count_up, dim3(5), dim3(40), 0, counter.data(), largest.data()), "");
  EXPECT_EQ(counter[0], 400);
  EXPECT_EQ(largest[0], 1ull << 39);
}

void nothing() {}

cudaError_t status_of(dim3 grid, dim3 block, size_t shared) {
  const cudaLaunchConfig_t config{grid, block, shared, nullptr};
  return cudaLaunchKernelEx(&config, nothing);
}

TEST(Block, ImpossibleLaunchesAreErrors) {
  EXPECT_EQ(status_of(dim3(1), dim3(1024), 0), cudaSuccess);
  EXPECT_EQ(status_of(dim3(1), dim3(1025), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(status_of(dim3(0), dim3(32), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(status_of(dim3(1, 65536), dim3(32), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(status_of(dim3(1), dim3(32), 48 << 10), cudaSuccess);
  EXPECT_EQ(status_of(dim3(1), dim3(32), (48 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10), cudaSuccess);
  EXPECT_EQ(status_of(dim3(1), dim3(32), 64 << 10), cudaSuccess);
}

}  // namespace
}  // namespace mor::cuda_host::test
