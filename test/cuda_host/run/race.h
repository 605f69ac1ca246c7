// Races between the threads of a grid, by what the instrumentation of -fsanitize=thread tells of every access.
// Must not know of kernels or of how threads are scheduled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mor::cuda_host::race {

/// Where a thread of the grid stands: two accesses are ordered if one thread makes them, or if between them both
/// threads have passed a barrier of their block, or a __syncwarp of their warp. Shuffles, votes and mma.sync order
/// nothing, and nothing orders two blocks of a grid.
struct Moment {
  uint32_t block = 0;  ///< number, from 0, in the grid
  uint32_t thread = 0, barriers = 0, warp_syncs = 0;
  const char *stack_begin = nullptr, *stack_end = nullptr;  ///< the thread's registers and local memory
};

/// How often a thread may pass one of each.
constexpr uint32_t kMostBarriers = (1 << 16) - 1, kMostWarpSyncs = (1 << 15) - 1;

/// A new grid: what was accessed before is ordered with what comes. Throws std::length_error for too many blocks.
void begin_grid(uint64_t blocks);
/// What `moment` says is where the running thread stands, until the next call; nullptr: no kernel is running.
void run(const Moment* moment);
/// The block's dynamic shared memory, which every block has for itself.
void set_shared_memory(const void* begin, size_t bytes);

enum class Kind { read, write, atomic };
/// The running thread's access. Every program that has instrumented kernels is watched, others are not.
void access(const void* address, size_t bytes, Kind kind);

/// Two accesses of one address by two threads, of which one writes: the first of the grid. Empty: none.
struct Race {
  std::string what, where;  ///< `where`: the place in the source of the later access
  Moment earlier, later;
  explicit operator bool() const { return !what.empty(); }
};
/// Takes the race that was found, if any.
Race take();

}  // namespace mor::cuda_host::race
