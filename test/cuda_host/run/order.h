// Vector clocks: what the threads of a cluster have seen of each other, by which the race detector takes two accesses
// as ordered.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace mor::cuda_host::race {

/// Who makes accesses in a cluster, which is one block if the launch has no clusters: the threads of one block after
/// the other; behind them the mbarriers, whose copies write shared memory, and the warpgroups, whose products read it.
/// A block has at most so many of each:
constexpr int kMostMbarriers = 64, kMostWarpgroups = 8, kMostThreads = 1024;
constexpr int kMostInCluster = 2;  ///< blocks; the host run has no larger clusters

/// For every agent, up to which of its epochs all accesses happened before. An epoch ends where others may see it.
struct Clock {
  explicit Clock(size_t agents) : seen(agents), fenced(agents) {}
  std::vector<uint32_t> seen;
  /// The same for ordinary writes as copies and products see them: only those that a fence_async_proxy follows.
  std::vector<uint32_t> fenced;
};
using ClockPointer = std::shared_ptr<const Clock>;  ///< null: nothing was seen

/// How far an agent has come, and what it has seen.
struct Moment {
  uint32_t cluster = 0;  ///< number, from 0, in the grid
  uint32_t agent = 0;
  uint32_t epoch = 1;
  uint32_t fenced = 0;  ///< the last epoch whose writes a fence_async_proxy follows
  ClockPointer clock;
  bool waited = true;  ///< for earlier kernels: whether device memory may be accessed
  const char *stack_begin = nullptr, *stack_end = nullptr;  ///< a thread's registers and local memory
};

/// The agents of a cluster follow from the threads of a block and the blocks of a cluster.
void set_agents(int threads, int blocks);
size_t agents();
/// By numbers that run on from one block of the cluster to the next.
uint32_t mbarrier_agent(int number);
uint32_t warpgroup_agent(int number);

/// What some agents have done, for those that will see it: a barrier. It costs nothing while no races are looked for.
class Gather {
 public:
  /// What the thread has done until now; a new epoch begins.
  void add(Moment& thread);
  /// What a copy or products have done.
  void add(uint32_t agent, uint32_t epoch);
  /// All that was added, which is then forgotten.
  ClockPointer take();

 private:
  struct Epoch {
    uint32_t agent, epoch, fenced;
  };
  std::vector<ClockPointer> clocks_;
  std::vector<Epoch> epochs_;
};

/// The thread has seen what the clock says.
void see(Moment& thread, const ClockPointer& clock);
/// fence_async_proxy.
void fence(Moment& thread);
/// What the thread has seen, itself included: the clock of a copy that it begins.
ClockPointer with_itself(const Moment& thread);
/// What all have seen.
ClockPointer common(const std::vector<ClockPointer>& clocks);

}  // namespace mor::cuda_host::race
