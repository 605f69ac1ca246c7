// The race detector: finds races between the threads of a grid from the accesses that -fsanitize=thread reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "test/cuda_host/run/order.h"

namespace mor::cuda_host::race {

/// Two accesses are ordered if one thread makes both, or if a barrier of some kind lies between them: of the block, of
/// some of its threads, of a cluster, an mbarrier, or a __syncwarp of the whole warp. Shuffles, votes and mma.sync
/// order nothing, and nothing orders two clusters of a grid, or two blocks of a grid without clusters. Copies and
/// products that run on by themselves (TMA, wgmma) make accesses of their own from where they begin until something has
/// waited for them; an ordinary write is ordered before them only if a fence_async_proxy of its thread lies between the
/// write and the barrier.

/// Begins a grid of so many clusters, whose blocks have so many threads: all earlier accesses are ordered before those
/// of the grid. Throws std::length_error for too many clusters.
void begin_grid(uint64_t clusters, int cluster_blocks, int threads);
/// `moment` is how far the running thread has come, until the next call; null: no kernel is running.
void run(const Moment* moment);
/// The dynamic shared memory of one block of a cluster. Accesses of two clusters to it do not race, since each has its
/// own.
void set_shared_memory(int rank, const void* begin, size_t bytes);
/// Says whether an address lies in device memory, where an access before wait_for_earlier_kernels is a race with an
/// earlier kernel.
void set_device_memory(bool (*holds)(const void* address));
/// Whether the program has instrumented kernels, so that races are looked for.
bool watching();

enum class Kind { read, write, atomic };
/// Reports an access of the running thread.
void access(const void* address, size_t bytes, Kind kind);
/// Reports an access of a copy or of products.
void access_by(const Moment& agent, const void* address, size_t bytes, Kind kind);

/// The first race of the grid: accesses of one address by two agents that nothing orders, of which one is a write.
/// Or one access of a thread that has not waited for earlier kernels; then `earlier` is `later`. Empty: none.
struct Race {
  std::string what, where;  ///< where: the source line of the later access
  struct Place {
    uint32_t cluster = 0, agent = 0;
  } earlier, later;
  explicit operator bool() const { return !what.empty(); }
};
/// Returns the race that was found, if any, and forgets it.
Race take();

}  // namespace mor::cuda_host::race
