// What the parts of the execution model share: the threads of the running cluster (of one block, if the launch has
// no clusters), and how they wait.
#pragma once

#include <array>
#include <cstdlib>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "test/cuda_host/include/cuda_runtime.h"
#include "test/cuda_host/run/fiber.h"

namespace mor::cuda_host {

struct Block;

struct Thread {
  Thread() : fiber(&Thread::loop, this) {}
  static void loop(void* self);

  Fiber fiber;
  Block* block = nullptr;
  int number = 0;  ///< in its block
  uint3 index{};
  bool ended = true;
  const void* waits_for = nullptr;  ///< null: nothing
  const char* operation = "";       ///< in which it waits
  race::Moment moment;
  int registers = 0;
  std::vector<AsyncCopy> begun;               ///< not yet in a group
  std::deque<std::vector<AsyncCopy>> groups;  ///< committed, oldest first
};

struct Barrier {
  int arrived = 0, expected = 0;
  race::Gather gather;
};

/// A __syncwarp of a whole warp.
struct WarpSync {
  int arrived = 0;
  race::Gather gather;
  race::ClockPointer clock;
};

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};

/// What the threads of a block share.
struct Block {
  int rank = 0;  ///< in its cluster
  uint3 index{};
  int running = 0;           ///< threads that have not ended
  int unused_registers = 0;  ///< that were given back; its address stands for a change
  std::array<Barrier, kMaxBarriers> barriers;
  std::vector<WarpSync> warp_syncs;
  std::vector<std::vector<std::unique_ptr<Meeting::State>>> meetings;  ///< of each warp
  std::unique_ptr<void, FreeDeleter> shared;                           ///< memory
};

struct Grid {
  /// Kept from grid to grid; the first `count` belong to this one, those of one block of the cluster after the other.
  std::vector<std::unique_ptr<Thread>> threads;
  int count = 0, block_threads = 0, cluster_blocks = 1;
  std::array<Block, race::kMostInCluster> blocks;
  Barrier cluster_barrier;
  Thread* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr error;
  size_t shared_bytes = 0;  ///< of a block
  bool early = false, falling_threads = false, falling_blocks = false;

  void begin_cluster(uint32_t cluster);
  void run_cluster(uint32_t cluster);
  std::string describe_deadlock() const;
  std::string describe(const race::Race& race) const;
  std::string name_of(const race::Race::Place& place) const;
};

Grid& grid();
inline Thread& running() {
  return *grid().current;
}

std::string name_of(const uint3& index);

/// The running thread waits until wake() is called with the same event.
void wait_for(const void* event, const char* operation);
/// The threads that wait for the event have seen what the clock says, and go on.
void wake(const void* event, const race::ClockPointer& clock);

/// Waits until so many threads have called it.
void meet(Barrier& barrier, int threads, const char* operation);

/// The place in the block's dynamic shared memory of `bytes` bytes at an address that instructions know
/// (shared_address). Ends the kernel with an error if they lie elsewhere.
uint8_t* at_shared_address(uint64_t address, size_t bytes, const char* operation);

// The parts that have a state of their own. end: throws KernelError if something was begun and not waited for.
namespace clusters {
void begin_cluster();
void end_thread();  ///< the running one
void end_cluster(uint32_t cluster);
}  // namespace clusters
namespace mbarriers {
void begin_cluster();
std::string describe(const void* event);  ///< what a thread waits for, if it is an mbarrier
}  // namespace mbarriers
namespace tensor_copies {
void begin_cluster();
void end_cluster();
/// Does one copy; false: there is none left.
bool do_one();
}  // namespace tensor_copies
namespace products {
void begin_cluster();
void end_cluster();
}  // namespace products
namespace registers {
void begin_cluster();
}  // namespace registers

}  // namespace mor::cuda_host
