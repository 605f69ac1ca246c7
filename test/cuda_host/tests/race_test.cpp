// The race detector finds every kind of race and reports no accesses that are ordered. This file is compiled like the
// kernels of mor_cuda_race.
#include <algorithm>

#include "cuda/tensor_map.h"
#include "cuda/tile/async_copy.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/wgmma.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

using cuda::async_copy16, cuda::async_copy_commit, cuda::async_copy_wait, cuda::dynamic_shared;

enum class Between { nothing, shuffle, warp_sync, barrier };

__device__ void wait(Between between) {
  if (between == Between::shuffle) (void)__shfl_xor_sync(0xffffffffu, 1, 1);
  if (between == Between::warp_sync) __syncwarp();
  if (between == Between::barrier) __syncthreads();
}

/// Every thread writes its word, then reads that of the thread `apart` further.
void write_then_read(int* out, Between between, unsigned apart) {
  int* words = dynamic_shared<int>();
  words[threadIdx.x] = static_cast<int>(threadIdx.x);
  wait(between);
  out[threadIdx.x] = words[(threadIdx.x + apart) % blockDim.x];
}

/// Every thread reads the word of the thread `apart` further, then writes its own.
void read_then_write(int* out, Between between, unsigned apart) {
  __shared__ int words[64];
  words[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = words[(threadIdx.x + apart) % blockDim.x];
  wait(between);
  words[threadIdx.x] = 2;
}

struct Order {
  Between between;
  unsigned threads, apart;
  bool race;
};
class RaceOrder : public testing::TestWithParam<Order> {};

TEST_P(RaceOrder, OfAWriteAndARead) {
  const Order o = GetParam();
  for (auto* kernel : {write_then_read, read_then_write}) {
    DeviceArray<int> out(64);
    const std::string error = run(kernel, dim3(1), dim3(o.threads), 64 * sizeof(int), out.data(), o.between, o.apart);
    EXPECT_EQ(error.substr(0, 4), o.race ? "race" : "");
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, RaceOrder,
                         testing::Values(Order{Between::nothing, 64, 0, false},    // its own word
                                         Order{Between::nothing, 32, 1, true},     // no lockstep
                                         Order{Between::shuffle, 32, 1, true},     // a shuffle orders no memory
                                         Order{Between::warp_sync, 32, 1, false},  //
                                         Order{Between::warp_sync, 64, 32, true},  // of another warp
                                         Order{Between::barrier, 64, 32, false}));

void write_one_word(int* out) {
  if (threadIdx.x % 40 == 0) *out = 1;
}

TEST(Race, OfTwoWritesNamesBothThreadsAndThePlace) {
  DeviceArray<int> out(1);
  const std::string error = run(write_one_word, dim3(1), dim3(64), 0, out.data());
  EXPECT_EQ(error.find("race: a write of what another thread writes in global memory"), 0u) << error;
  EXPECT_NE(error.find("thread (0,0,0) of block (0,0,0)"), std::string::npos) << error;
  EXPECT_NE(error.find("thread (40,0,0) of block (0,0,0)"), std::string::npos) << error;
  EXPECT_NE(error.find("write_one_word"), std::string::npos) << error;
  EXPECT_NE(error.find("race_test.cpp:"), std::string::npos) << error;
}

/// Two threads write neighbouring halves of one word.
void write_halves(int16_t* out) {
  out[threadIdx.x] = 1;
}

TEST(Race, BytesAreToldApart) {
  DeviceArray<int16_t> out(32);
  EXPECT_EQ(run(write_halves, dim3(1), dim3(32), 0, out.data()), "");
}

/// Every block adds to one sum, with atomic accesses or without.
void sum(int* out, bool atomically) {
  if (threadIdx.x != 0) return;
  if (atomically)
    atomicAdd(out, 1);
  else
    *out += 1;
}

TEST(Race, BlocksAreNotOrdered) {
  DeviceArray<int> out(1);
  EXPECT_EQ(run(sum, dim3(1), dim3(32), 0, out.data(), false), "");
  EXPECT_EQ(run(sum, dim3(1), dim3(32), 0, out.data(), false), "") << "one grid is over before the next begins";
  EXPECT_NE(run(sum, dim3(2), dim3(32), 0, out.data(), false), "");
  EXPECT_EQ(run(sum, dim3(2), dim3(32), 0, out.data(), true), "");
}

void read_beside_atomics(int* out) {
  if (threadIdx.x == 0)
    atomicAdd(out, 1);
  else
    out[threadIdx.x] = *out;
}

TEST(Race, OfAnAtomicAndAPlainRead) {
  DeviceArray<int> out(32);
  EXPECT_NE(run(read_beside_atomics, dim3(1), dim3(32), 0, out.data()), "");
}

void own_shared_memory(int* out) {
  __shared__ int word;
  if (threadIdx.x == 0) word = static_cast<int>(blockIdx.x);
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = word;
}

TEST(Race, EveryBlockHasItsOwnSharedMemory) {
  DeviceArray<int> out(4 * 32);
  EXPECT_EQ(run(own_shared_memory, dim3(4), dim3(32), 0, out.data()), "");
}

/// Two stages of a pipeline: one is filled while the other is read. `ordered`: no stage is filled before all have
/// read it.
void pipeline(const uint4* from, uint4* out, bool ordered) {
  uint4* stages = dynamic_shared<uint4>();
  const unsigned t = threadIdx.x, n = blockDim.x;
  async_copy16(stages + t, from + t);
  async_copy_commit();
  for (unsigned step = 0; step < 4; ++step) {
    async_copy_wait<0>();
    __syncthreads();
    uint4* stage = stages + step % 2 * n;
    if (step + 1 < 4) async_copy16((ordered ? stages + (step + 1) % 2 * n : stage) + t, from + (step + 1) * n + t);
    async_copy_commit();
    out[step * n + t] = stage[(t + 1) % n];
  }
}

TEST(Race, OfACopyThatArrivesWhileItsStageIsRead) {
  DeviceArray<uint4> from(4 * 64), out(4 * 64);
  EXPECT_EQ(run(pipeline, dim3(1), dim3(64), 2 * 64 * sizeof(uint4), from.data(), out.data(), true), "");
  EXPECT_EQ(run(pipeline, dim3(1), dim3(64), 2 * 64 * sizeof(uint4), from.data(), out.data(), false).substr(0, 4),
            "race");
}

/// Both warps read a word, then the second warp writes it. The detector must still know the read of the first.
void read_twice_then_write(int* out) {
  __shared__ int word;
  if (threadIdx.x == 0) word = 1;
  __syncthreads();
  for (unsigned turn = 0; turn < 2; ++turn)
    if (threadIdx.x / 32 == turn) out[threadIdx.x] = word;
  if (threadIdx.x == 63) {
    out[64] = word;
    word = 2;
  }
}

TEST(Race, AReadIsNotForgottenForAnother) {
  DeviceArray<int> out(65);
  EXPECT_EQ(run(read_twice_then_write, dim3(1), dim3(64), 0, out.data()).substr(0, 4), "race");
}

/// The first half of the block writes words, and the other half reads them.
void write_for_the_other_half(int* out, bool arrives) {
  __shared__ cuda::Mbarrier full;
  __shared__ int words[32];
  if (threadIdx.x == 0) mbarrier_init(full, 32);
  __syncthreads();
  if (threadIdx.x < 32) {
    if (!arrives) mbarrier_arrive(full);
    words[threadIdx.x] = 1;
    if (arrives) mbarrier_arrive(full);
  } else {
    mbarrier_wait(full, 0);
    out[threadIdx.x - 32] = words[threadIdx.x - 32];
  }
}

TEST(Race, AnMbarrierOrdersWhatIsBeforeAnArrival) {
  DeviceArray<int> out(32);
  EXPECT_EQ(run(write_for_the_other_half, dim3(1), dim3(64), 0, out.data(), true), "");
  EXPECT_EQ(run(write_for_the_other_half, dim3(1), dim3(64), 0, out.data(), false).substr(0, 4), "race");
}

void meet_in_a_named_barrier(int* out, int readers) {
  __shared__ int word;
  if (threadIdx.x == 0) word = 1;
  if (threadIdx.x < 64) cuda::named_barrier_sync(1, 64);
  if (threadIdx.x < static_cast<unsigned>(readers)) out[threadIdx.x] = word;
}

TEST(Race, ANamedBarrierOrdersItsThreads) {
  DeviceArray<int> out(96);
  EXPECT_EQ(run(meet_in_a_named_barrier, dim3(1), dim3(96), 0, out.data(), 64), "");
  EXPECT_EQ(run(meet_in_a_named_barrier, dim3(1), dim3(96), 0, out.data(), 96).substr(0, 4), "race");
}

constexpr int kPanel = 64 * 128;  ///< bytes

enum class Use {
  right,
  read_before_the_wait,
  no_fence,               ///< between ordinary writes and products that read them
  fence_by_another,       ///< thread
  write_before_the_wait,  ///< for products that read what is written over
  load_before_the_wait,   ///< likewise
};

/// Two warpgroups. The first one writes a factor, loads another one, multiplies both, and then writes and loads them
/// anew.
void use_factors(const cuda::TensorMap map, int* out, Use use) {
  char* shared = dynamic_shared<char>();
  int* written = reinterpret_cast<int*>(shared);
  char* loaded = shared + kPanel;
  cuda::Mbarrier* full = reinterpret_cast<cuda::Mbarrier*>(shared + 2 * kPanel);
  if (threadIdx.x == 0) {
    mbarrier_init(full[0], 1);
    mbarrier_init(full[1], 1);
    cuda::mbarrier_init_fence();
  }
  __syncthreads();
  const auto load = [&](int i) {
    mbarrier_expect_bytes(full[i], kPanel);
    tensor_copy_load(loaded, map, 0, 0, full[i]);
  };
  const auto write = [&] {
    for (int i = static_cast<int>(threadIdx.x); i < kPanel / 4; i += cuda::kWarpgroup) written[i] = 0;
  };
  const bool first = threadIdx.x < cuda::kWarpgroup;
  if (threadIdx.x == 0) load(0);
  if (first) write();
  if (use != Use::no_fence && first != (use == Use::fence_by_another)) cuda::fence_async_proxy();
  __syncthreads();
  if (use != Use::read_before_the_wait) mbarrier_wait(full[0], 0);
  out[threadIdx.x] = reinterpret_cast<int*>(loaded)[threadIdx.x];
  __syncthreads();
  if (!first) return;
  mbarrier_wait(full[0], 0);
  float d[32] = {};
  cuda::wgmma_arrive();
  cuda::wgmma<64, false, false>(d, cuda::wgmma_tile(written), cuda::wgmma_tile(loaded));
  cuda::wgmma_commit();
  if (use == Use::write_before_the_wait) write();
  cuda::named_barrier_sync(1, cuda::kWarpgroup);
  if (use == Use::load_before_the_wait && threadIdx.x == 0) load(1);
  cuda::wgmma_wait<0>();
  cuda::named_barrier_sync(1, cuda::kWarpgroup);
  if (use == Use::right) {
    write();
    cuda::fence_async_proxy();
    if (threadIdx.x == 0) load(1);
  }
  if (use == Use::right || use == Use::load_before_the_wait) mbarrier_wait(full[1], 0);
}

TEST(Race, OfCopiesAndProductsThatRunOn) {
  DeviceArray<bf16> tensor(64 * 64);
  DeviceArray<int> out(2 * cuda::kWarpgroup);
  cuda::Stream stream(0);
  const cuda::TensorMap map = cuda::tensor_map(stream, tensor.data(), 64, {{64, 64, 64}});
  const auto result = [&](Use use) {
    return run(use_factors, dim3(1), dim3(2 * cuda::kWarpgroup), 2 * kPanel + 2 * sizeof(cuda::Mbarrier), map,
               out.data(), use);
  };
  for (const auto& [use, error] : {std::pair{Use::right, ""},
                                   {Use::read_before_the_wait, "a tensor_copy_load of block (0,0,0), then thread"},
                                   {Use::no_fence, "then wgmma of warpgroup 0 of block (0,0,0)"},
                                   {Use::fence_by_another, "then wgmma of warpgroup 0 of block (0,0,0)"},
                                   {Use::write_before_the_wait, "wgmma of warpgroup 0 of block (0,0,0)"},
                                   {Use::load_before_the_wait, "then a tensor_copy_load of block (0,0,0)"}}) {
    const std::string found = result(use);
    EXPECT_EQ(found.substr(0, 4), use == Use::right ? "" : "race") << found;
    EXPECT_NE(found.find(error), std::string::npos) << found;
  }
}

/// Every thread reads or writes its word before it waits for earlier kernels, or behind that.
void access_words(int* words, bool writes, bool early) {
  if (!early) cuda::wait_for_earlier_kernels();
  if (writes)
    words[threadIdx.x] = 1;
  else if (words[threadIdx.x] == 5)
    __trap();
  if (early) cuda::wait_for_earlier_kernels();
}

TEST(Race, WithAnEarlierKernelIsFoundBeforeTheWaitAlone) {
  DeviceArray<int> words(32);
  for (const bool writes : {false, true}) {
    const std::string error = run_early(access_words, dim3(1), dim3(32), 0, words.data(), writes, true);
    const std::string what = writes ? "a write" : "a read";
    EXPECT_EQ(error.find("race: " + what + " in global memory before wait_for_earlier_kernels"), 0u) << error;
    EXPECT_NE(error.find("access_words"), std::string::npos) << error;
    EXPECT_EQ(run_early(access_words, dim3(1), dim3(32), 0, words.data(), writes, false), "");
    EXPECT_EQ(run(access_words, dim3(1), dim3(32), 0, words.data(), writes, true), "");  // no early start
  }
}

}  // namespace
}  // namespace mor::cuda_host::test
