// Clusters: their barrier, places in another block's shared memory, and blocks that may end too early for those.
#include "test/cuda_host/run/cluster.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "test/cuda_host/run/threads.h"

namespace mor::cuda_host {

namespace {

/// For each block and each agent, its last epoch in which it has used the block's shared memory.
std::array<std::vector<uint32_t>, race::kMostInCluster> last_uses;
/// For each block, what its threads had seen when they ended.
std::array<race::Gather, race::kMostInCluster> ends;

}  // namespace

void cluster_sync() {
  meet(grid().cluster_barrier, grid().count, "cluster_sync");
}

namespace clusters {

void begin_cluster() {
  for (auto& uses : last_uses) uses.clear();
  for (race::Gather& gather : ends) gather = {};
}

void end_thread() {
  const Thread& self = running();
  --self.block->running;
  if (grid().cluster_blocks > 1) ends[static_cast<size_t>(self.block->rank)].add(running().moment);
}

void end_cluster(uint32_t cluster) {
  for (size_t rank = 0; rank < last_uses.size(); ++rank) {
    const std::vector<uint32_t>& uses = last_uses[rank];
    if (uses.empty()) continue;
    const race::ClockPointer seen = ends[rank].take();
    if (seen == nullptr) return;  // no races are looked for
    for (uint32_t agent = 0; agent < uses.size(); ++agent)
      if (uses[agent] > seen->seen[agent])
        throw KernelError("block " + name_of(grid().blocks[rank].index) + " may end before " +
                          grid().name_of({cluster, agent}) + " reaches its shared memory");
  }
}

void* place_in(int rank, const void* address, const char* operation) {
  if (rank < 0 || rank >= grid().cluster_blocks)
    fail(std::string(operation) + ": the cluster has no block " + std::to_string(rank));
  const Block& to = grid().blocks[static_cast<size_t>(rank)];
  if (to.running == 0) fail(std::string(operation) + ": block " + name_of(to.index) + " has ended");
  const uint64_t distance = shared_address(address) - shared_address(running().block->shared.get());
  return static_cast<uint8_t*>(to.shared.get()) + distance;
}

void use(int rank, uint32_t agent, uint32_t epoch) {
  std::vector<uint32_t>& uses = last_uses[static_cast<size_t>(rank)];
  uses.resize(race::agents());
  uses[agent] = std::max(uses[agent], epoch);
}

}  // namespace clusters

}  // namespace mor::cuda_host
