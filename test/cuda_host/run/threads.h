// What the parts of the execution model share: the threads of the running block, and how they wait.
#pragma once

#include <array>
#include <deque>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "test/cuda_host/include/cuda_runtime.h"
#include "test/cuda_host/run/fiber.h"

namespace mor::cuda_host {

struct Thread {
  Thread() : fiber(&Thread::loop, this) {}
  static void loop(void* self);

  Fiber fiber;
  int number = 0;
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

struct Grid {
  std::vector<std::unique_ptr<Thread>> threads;  ///< kept from grid to grid; the first `count` belong to this one
  int count = 0;
  Thread* current = nullptr;
  const std::function<void()>* kernel = nullptr;
  std::exception_ptr error;
  std::array<Barrier, kMaxBarriers> barriers;
  std::vector<WarpSync> warp_syncs;
  std::vector<std::vector<std::unique_ptr<Meeting::State>>> meetings;  ///< of each warp
  void* shared = nullptr;
  size_t shared_bytes = 0;
  bool early = false, falling_threads = false, falling_blocks = false;

  void begin_block(uint32_t block);
  void run_block(uint32_t block);
  std::string describe_deadlock() const;
  std::string describe(const race::Race& race) const;
  std::string name_of(const race::Race::Place& place) const;
};

Grid& grid();
inline Thread& running() {
  return *grid().current;
}

/// The running thread waits until wake() is called with the same event.
void wait_for(const void* event, const char* operation);
/// The threads that wait for the event have seen what the clock says, and go on.
void wake(const void* event, const race::ClockPointer& clock);

/// The place in dynamic shared memory of `bytes` bytes at an address that instructions know (shared_address). Ends the
/// kernel with an error if they lie elsewhere.
uint8_t* at_shared_address(uint64_t address, size_t bytes, const char* operation);

// The parts that have a state of their own. end: throws KernelError if something was begun and not waited for.
namespace mbarriers {
void begin_block();
std::string describe(const void* event);  ///< what a thread waits for, if it is an mbarrier
}  // namespace mbarriers
namespace tensor_copies {
void begin_block();
void end_block();
/// Does one copy; false: there is none left.
bool do_one();
}  // namespace tensor_copies
namespace products {
void begin_block();
void end_block();
}  // namespace products
namespace registers {
void begin_block();
}  // namespace registers

}  // namespace mor::cuda_host
