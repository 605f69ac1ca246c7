// Clusters in the execution model: what blocks share reaches both, and every mistake in sharing is found. This file is
// compiled like the kernels of mor_cuda_race.
#include <vector>

#include "cuda/tensor_map.h"
#include "cuda/tile/cluster.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/tile_ring.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

constexpr int kBlocks = 2, kRows = 64, kColumns = 64, kSteps = 5, kThreads = 64;
using Tile = cuda::PanelTile<kRows, kColumns>;
using Ring = cuda::TileRing<Tile, 2>;

enum class Use {
  right,
  no_sync_at_begin,
  no_sync_at_end,
  released_to_one_block,
  released_before_the_read,  ///< by the second block
  read_before_the_wait,
  not_waited_for_by_one_block,
  no_fence,
  mask_of_three,
  no_such_block,
};

/// The blocks of a cluster load tiles, each its half of the rows for both, and read them: out [blocks, steps, 32], the
/// first element of every second row.
void share_tiles(const cuda::TensorMap map, bf16* out, Use use) {
  cuda::wait_for_earlier_kernels();
  Ring& ring = *cuda::dynamic_shared<Ring>();
  const int rank = static_cast<int>(blockIdx.x) % kBlocks, lane = static_cast<int>(threadIdx.x) % 32;
  const bool both = use != Use::released_to_one_block;
  if (threadIdx.x == 0) {
    ring.init(1, both ? kBlocks : 1);
    if (use != Use::no_fence) cuda::mbarrier_init_fence();
  }
  if (use == Use::no_sync_at_begin)
    __syncthreads();
  else
    cuda::cluster_sync();
  if (use == Use::no_such_block && threadIdx.x == 0) mbarrier_arrive_in_block(ring.empty[0], kBlocks);
  cuda::RingPlace<Ring::places> at;
  for (int step = 0; step < kSteps; ++step, at.advance()) {
    if (threadIdx.x == 0) {
      cuda::wait_empty<kBlocks>(ring, at);
      mbarrier_expect_bytes(ring.full[at.index], sizeof(Tile));
      const int row = rank * kRows / kBlocks;
      tensor_copy_multicast(ring.tile[at.index].chunk(row, 0), map, 0, kRows * step + row, ring.full[at.index],
                            use == Use::mask_of_three ? 7 : 3);
    } else if (threadIdx.x >= 32) {
      if (use == Use::not_waited_for_by_one_block && rank == 1 && step == kSteps - 1) break;
      bf16& to = out[(static_cast<int>(blockIdx.x) * kSteps + step) * 32 + lane];
      if (use == Use::read_before_the_wait) to = *ring.tile[at.index].chunk(2 * lane, 0);
      wait_full(ring, at);
      const bool early = use == Use::released_before_the_read && rank == 1;
      if (early) cuda::release<kBlocks>(ring, at);
      to = *ring.tile[at.index].chunk(2 * lane, 0);
      if (!both)
        release(ring, at);
      else if (!early)
        cuda::release<kBlocks>(ring, at);
    }
  }
  if (use != Use::no_sync_at_end) cuda::cluster_sync();
}

/// A launch in clusters of so many blocks, as ops launch.
template <class... Parameters, class... Arguments>
std::string run_clusters(dim3 cluster, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                         Arguments... arguments) {
  cudaLaunchAttribute attributes[2] = {{cudaLaunchAttributeProgrammaticStreamSerialization, {1}},
                                       {cudaLaunchAttributeClusterDimension, {}}};
  attributes[1].val.clusterDim = {cluster.x, cluster.y, cluster.z};
  return run({grid, block, shared, nullptr, attributes, 2}, kernel, arguments...);
}

class Cluster : public testing::Test {
 protected:
  static constexpr unsigned kClusters = 3;
  std::string share(Use use) {
    return run_clusters(dim3(kBlocks), share_tiles, dim3(kBlocks * kClusters), dim3(kThreads), sizeof(Ring), map(),
                        out_.data(), use);
  }
  /// [kSteps kRows, kColumns], whose rows hold their numbers, which bf16 has exactly up to 256 and beyond it if even.
  cuda::TensorMap map() {
    std::vector<bf16> values(static_cast<size_t>(kSteps * kRows * kColumns));
    for (size_t i = 0; i < values.size(); ++i) values[i] = number(i / kColumns);
    cudaMemcpyAsync(from_.data(), values.data(), values.size() * sizeof(bf16), cudaMemcpyHostToDevice, nullptr);
    cuda::Stream stream(0);
    return cuda::tensor_map(stream, from_.data(), kColumns, {{kSteps * kRows, kColumns, kRows / kBlocks}});
  }
  static bf16 number(size_t row) { return cuda::from_float<bf16>(static_cast<float>(row)); }
  DeviceArray<bf16> from_{static_cast<size_t>(kSteps * kRows * kColumns)};
  DeviceArray<bf16> out_{static_cast<size_t>(kClusters * kBlocks * kSteps * 32)};
};

TEST_F(Cluster, AMulticastCopyReachesBothBlocks) {
  for (int attempt = 0; attempt < 4; ++attempt) {  // copies are done early or late
    ASSERT_EQ(share(Use::right), "");
    for (size_t i = 0; i < kClusters * kBlocks * kSteps * 32; ++i) {
      const size_t step = i / 32 % kSteps, row = kRows * step + 2 * (i % 32);
      ASSERT_EQ(cuda::to_float(out_[i]), cuda::to_float(number(row))) << i;
    }
  }
}

TEST_F(Cluster, MistakesAreFound) {
  for (const auto& [use, error] :
       {std::pair{Use::released_before_the_read, "in shared memory, and nothing orders them"},
        {Use::read_before_the_wait, "a read of what another thread writes in shared memory"},
        {Use::not_waited_for_by_one_block, "before a tensor_copy_load"},
        {Use::no_fence, "there was no mbarrier_init_fence behind mbarrier_init"},
        {Use::mask_of_three, "tensor_copy_multicast: the cluster has 2 blocks, and the mask is 7"},
        {Use::no_such_block, "mbarrier_arrive_in_block: the cluster has no block 2"}}) {
    const std::string found = share(use);
    EXPECT_NE(found.find(error), std::string::npos) << found << "\ninstead of: " << error;
  }
}

TEST_F(Cluster, AStageIsReleasedByTheWarpsOfBothBlocks) {
  int races = 0;
  for (int attempt = 0; attempt < 8; ++attempt) {
    const std::string found = share(Use::released_to_one_block);
    EXPECT_NE(found, "");
    races += found.find("race: ") == 0;  // else the phases of an mbarrier were mixed up before
  }
  EXPECT_GT(races, 0);
}

TEST_F(Cluster, ABlockMustHaveBegunAndMustNotHaveEnded) {
  const std::string begin = share(Use::no_sync_at_begin), end = share(Use::no_sync_at_end);
  // What is found first depends on the order of threads.
  EXPECT_TRUE(begin.find("race: ") == 0 || begin.find("was not initialised") != std::string::npos) << begin;
  EXPECT_TRUE(end.find("may end before") != std::string::npos || end.find("has ended") != std::string::npos) << end;
}

/// The threads of the second block of each cluster arrive at the first one's barrier, perhaps when it has ended.
void arrive_at_first_block(int* out, bool first_waits) {
  cuda::wait_for_earlier_kernels();
  cuda::Mbarrier& barrier = *cuda::dynamic_shared<cuda::Mbarrier>();
  if (threadIdx.x == 0) mbarrier_init(barrier, static_cast<int>(blockDim.x));
  cuda::cluster_sync();
  if (blockIdx.x % kBlocks == 1) {
    out[blockIdx.x / kBlocks * blockDim.x + threadIdx.x] = 7;
    mbarrier_arrive_in_block(barrier, 0);
  } else if (first_waits) {
    cuda::mbarrier_wait<true>(barrier, 0);
    out[blockIdx.x / kBlocks * blockDim.x + threadIdx.x] += 1;
  }
}

TEST_F(Cluster, AnArrivalAtAnotherBlockOrdersWhatIsBeforeIt) {
  constexpr int kOdd = 40;  // threads: a block need not have whole warps
  const DeviceArray<int> out(2 * kOdd);
  EXPECT_EQ(run_clusters(dim3(kBlocks), arrive_at_first_block, dim3(2 * kBlocks), dim3(kOdd), 8, out.data(), true), "");
  for (size_t i = 0; i < 2 * kOdd; ++i) EXPECT_EQ(out[i], 8);
  const std::string error =
      run_clusters(dim3(kBlocks), arrive_at_first_block, dim3(2 * kBlocks), dim3(kOdd), 8, out.data(), false);
  EXPECT_TRUE(error.find("may end before thread") != std::string::npos || error.find("has ended") != std::string::npos)
      << error;
}

/// Both blocks write one word.
void write_one_word(int* out, bool in_turn) {
  cuda::wait_for_earlier_kernels();
  for (unsigned rank = 0; rank < kBlocks; ++rank) {
    if (threadIdx.x == 0 && blockIdx.x % kBlocks == rank) out[blockIdx.x / kBlocks] = static_cast<int>(rank);
    if (in_turn) cuda::cluster_sync();
  }
}

TEST_F(Cluster, ItsBarrierOrdersBothBlocks) {
  const DeviceArray<int> out(2);
  EXPECT_EQ(run_clusters(dim3(kBlocks), write_one_word, dim3(4), dim3(32), 0, out.data(), true), "");
  EXPECT_EQ(out[1], 1);
  const std::string error = run_clusters(dim3(kBlocks), write_one_word, dim3(2), dim3(32), 0, out.data(), false);
  EXPECT_EQ(error.find("race: a write of what another thread writes in global memory"), 0u) << error;
  EXPECT_NE(error.find("thread (0,0,0) of block (0,0,0)"), std::string::npos) << error;
  EXPECT_NE(error.find("thread (0,0,0) of block (1,0,0)"), std::string::npos) << error;
}

void one_block_waits() {
  cuda::wait_for_earlier_kernels();
  if (blockIdx.x == 1) cuda::cluster_sync();
}

TEST_F(Cluster, ABlockThatDoesNotComeIsADeadlock) {
  EXPECT_EQ(
      run_clusters(dim3(kBlocks), one_block_waits, dim3(kBlocks), dim3(32), 0),
      "deadlock in block (1,0,0): 32 of 64 threads wait for others that never come, 32 have ended; thread (0,0,0) "
      "waits in cluster_sync");
}

void only_waits() {
  cuda::wait_for_earlier_kernels();
}

TEST_F(Cluster, ImpossibleClustersAreErrors) {
  const auto error = [](dim3 cluster, unsigned blocks) {
    return run_clusters(cluster, only_waits, dim3(blocks), dim3(32), 0);
  };
  EXPECT_EQ(error(dim3(1), 3), "");
  EXPECT_EQ(error(dim3(2), 4), "");
  const std::string refused = "invalid configuration argument";
  EXPECT_EQ(error(dim3(2), 3), refused);
  EXPECT_EQ(error(dim3(4), 4), refused);
  EXPECT_EQ(error(dim3(1, 2), 4), refused);
  machine().compute_capability_major = 8;
  EXPECT_EQ(error(dim3(2), 4), refused);
  machine().compute_capability_major = 9;
}

}  // namespace
}  // namespace mor::cuda_host::test
