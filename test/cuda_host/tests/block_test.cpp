// Blocks, barriers, mbarriers, registers and shared memory of the execution model, and the errors that would make a GPU
// hang.
#include <numeric>

#include "cuda/tile/mbarrier.cuh"
#include "cuda/tile/warpgroup.cuh"
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

/// The first warp goes on at once; the second one waits for it.
void arrive_and_wait(int* out) {
  __shared__ int word;
  if (threadIdx.x < 32) {
    if (threadIdx.x == 0) word = 7;
    cuda::named_barrier_arrive(1, 64);
  } else {
    cuda::named_barrier_sync(1, 64);
    out[threadIdx.x - 32] = word;
  }
}

TEST(Block, AnArrivalDoesNotWait) {
  DeviceArray<int> out(32);
  EXPECT_EQ(run(arrive_and_wait, dim3(2), dim3(64), 0, out.data()), "");
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], 7);
}

/// The first warp writes numbers to two places in turn, and the second one reads them.
void write_and_read(int* out, int steps) {
  __shared__ cuda::Mbarrier full[2], empty[2];
  __shared__ int places[2];
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      mbarrier_init(full[i], 1);
      mbarrier_init(empty[i], 32);
    }
    cuda::mbarrier_init_fence();
  }
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int i = step % 2;
    const uint32_t parity = static_cast<uint32_t>(step) / 2 % 2;
    if (threadIdx.x == 0) {
      mbarrier_wait(empty[i], parity ^ 1);
      places[i] = step;
      mbarrier_arrive(full[i]);
    } else if (threadIdx.x >= 32) {
      mbarrier_wait(full[i], parity);
      out[step * 32 + static_cast<int>(threadIdx.x) - 32] = places[i];
      mbarrier_arrive(empty[i]);
    }
  }
}

TEST(Mbarrier, PhasesFollowEachOther) {
  constexpr size_t kSteps = 7;
  DeviceArray<int> out(kSteps * 32);
  EXPECT_EQ(run(write_and_read, dim3(1), dim3(64), 0, out.data(), static_cast<int>(kSteps)), "");
  for (size_t i = 0; i < kSteps * 32; ++i) EXPECT_EQ(out[i], static_cast<int>(i / 32));
}

enum class Mistake {
  no_init,
  second_init,
  written_over,
  an_arrival_too_many,
  an_arrival_too_few,
  bytes_that_never_come
};

void use_wrongly(Mistake mistake) {
  __shared__ cuda::Mbarrier barrier;
  barrier.word = 0;
  if (mistake != Mistake::no_init) mbarrier_init(barrier, 2);
  if (mistake == Mistake::second_init) mbarrier_init(barrier, 2);
  if (mistake == Mistake::written_over) barrier.word = 1;
  mbarrier_arrive(barrier);
  if (mistake == Mistake::an_arrival_too_many) {
    mbarrier_expect_bytes(barrier, 64);
    mbarrier_arrive(barrier);
  }
  if (mistake == Mistake::bytes_that_never_come) mbarrier_expect_bytes(barrier, 64);
  mbarrier_wait(barrier, 0);
}

TEST(Mbarrier, MistakesAreNamed) {
  for (const auto& [mistake, error] :
       {std::pair{Mistake::no_init, "mbarrier_arrive: the mbarrier was not initialised"},
        {Mistake::second_init, "mbarrier_init: the mbarrier was initialised before"},
        {Mistake::written_over, "mbarrier_arrive: something was written over the mbarrier"},
        {Mistake::an_arrival_too_many, "mbarrier_arrive: more than 2 arrivals in one phase"},
        {Mistake::an_arrival_too_few,
         "waits in mbarrier_wait for phase 0, in which 1 arrivals and 0 bytes are missing"},
        {Mistake::bytes_that_never_come,
         "waits in mbarrier_wait for phase 0, in which 0 arrivals and 64 bytes are missing"}}) {
    const std::string found = run(use_wrongly, dim3(1), dim3(1), 0, mistake);
    EXPECT_NE(found.find(error), std::string::npos) << found;
  }
}

/// A block of three warpgroups begins with 168 registers for each thread.
template <int down, int up>
void share_registers() {
  if (threadIdx.x < cuda::kWarpgroup)
    cuda::set_registers_down<down>();
  else
    cuda::set_registers_up<up>();
}

TEST(Registers, WarpgroupsCannotHaveMoreThanAMultiprocessor) {
  EXPECT_EQ(run(share_registers<24, 240>, dim3(2), dim3(384), 0), "");
  const std::string error = run(share_registers<32, 240>, dim3(2), dim3(384), 0);
  EXPECT_NE(error.find("waits in set_registers_up"), std::string::npos) << error;
  EXPECT_EQ(run(share_registers<176, 240>, dim3(1), dim3(384), 0).substr(0, 81),
            "set_registers_down: the thread has 168 registers, and would have 176 (block (0,0,");
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
  const cudaLaunchConfig_t config{grid, block, shared, nullptr, nullptr, 0};
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
