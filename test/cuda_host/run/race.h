// The race detector: finds races between the threads of a grid from the accesses that -fsanitize=thread reports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mor::cuda_host::race {

/// How far a thread of the grid has come. Two accesses are ordered if one thread makes both, or if between them both
/// threads have passed a barrier of their block or a __syncwarp of their warp. Shuffles, votes and mma.sync order
/// nothing, and nothing orders two blocks of a grid.
struct Moment {
  uint32_t block = 0;  ///< number, from 0, in the grid
  uint32_t thread = 0, barriers = 0, warp_syncs = 0;
  const char *stack_begin = nullptr, *stack_end = nullptr;  ///< the thread's registers and local memory
};

/// How many barriers and __syncwarps a thread may pass.
constexpr uint32_t kMostBarriers = (1 << 16) - 1, kMostWarpSyncs = (1 << 15) - 1;

/// Begins a grid: all earlier accesses are ordered before those of the grid. Throws std::length_error for too many
/// blocks.
void begin_grid(uint64_t blocks);
/// `moment` is how far the running thread has come, until the next call; null: no kernel is running.
void run(const Moment* moment);
/// The block's dynamic shared memory. Accesses of two blocks to it do not race, since each block has its own.
void set_shared_memory(const void* begin, size_t bytes);

enum class Kind { read, write, atomic };
/// Reports an access of the running thread. Races are looked for only in programs that have instrumented kernels.
void access(const void* address, size_t bytes, Kind kind);

/// The first race of the grid: accesses of one address by two threads that nothing orders, of which one is a write.
/// Empty: none.
struct Race {
  std::string what, where;  ///< where: the source line of the later access
  Moment earlier, later;
  explicit operator bool() const { return !what.empty(); }
};
/// Returns the race that was found, if any, and forgets it.
Race take();

}  // namespace mor::cuda_host::race
