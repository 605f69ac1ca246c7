// Vector clocks.
#include "test/cuda_host/run/order.h"

#include <algorithm>
#include <array>
#include <utility>

#include "test/cuda_host/run/race.h"

namespace mor::cuda_host::race {

namespace {

int threads_of_cluster = 0, blocks_of_cluster = 1;

void raise(std::vector<uint32_t>& to, const std::vector<uint32_t>& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] = std::max(to[i], from[i]);
}

/// Threads that have seen the same see the same barrier, so the last few results are kept.
ClockPointer join(const ClockPointer& a, const ClockPointer& b) {
  struct Joined {
    ClockPointer a, b, result;
  };
  static std::array<Joined, 8> recent;
  static size_t oldest = 0;
  for (const Joined& j : recent)
    if (j.a == a && j.b == b) return j.result;
  auto result = std::make_shared<Clock>(*a);
  raise(result->seen, b->seen);
  raise(result->fenced, b->fenced);
  recent[oldest] = {a, b, result};
  oldest = (oldest + 1) % recent.size();
  return result;
}

}  // namespace

void set_agents(int threads, int blocks) {
  threads_of_cluster = threads * blocks;
  blocks_of_cluster = blocks;
}

size_t agents() {
  return warpgroup_agent(kMostWarpgroups * blocks_of_cluster);
}

uint32_t mbarrier_agent(int number) {
  return static_cast<uint32_t>(threads_of_cluster + number);
}

uint32_t warpgroup_agent(int number) {
  return mbarrier_agent(kMostMbarriers * blocks_of_cluster) + static_cast<uint32_t>(number);
}

void Gather::add(Moment& thread) {
  if (!watching()) return;
  if (thread.clock != nullptr && std::find(clocks_.rbegin(), clocks_.rend(), thread.clock) == clocks_.rend())
    clocks_.push_back(thread.clock);
  epochs_.push_back({thread.agent, thread.epoch, thread.fenced});
  ++thread.epoch;
}

void Gather::add(uint32_t agent, uint32_t epoch) {
  if (watching()) epochs_.push_back({agent, epoch, 0});
}

ClockPointer Gather::take() {
  if (!watching()) return nullptr;
  const auto result = std::make_shared<Clock>(agents());
  for (const ClockPointer& clock : clocks_) {
    raise(result->seen, clock->seen);
    raise(result->fenced, clock->fenced);
  }
  for (const Epoch& e : epochs_) {
    result->seen[e.agent] = std::max(result->seen[e.agent], e.epoch);
    result->fenced[e.agent] = std::max(result->fenced[e.agent], e.fenced);
  }
  clocks_.clear();
  epochs_.clear();
  return result;
}

void see(Moment& thread, const ClockPointer& clock) {
  if (clock == nullptr || clock == thread.clock) return;
  thread.clock = thread.clock == nullptr ? clock : join(thread.clock, clock);
}

void fence(Moment& thread) {
  thread.fenced = thread.epoch++;
}

ClockPointer with_itself(const Moment& thread) {
  const auto result =
      thread.clock == nullptr ? std::make_shared<Clock>(agents()) : std::make_shared<Clock>(*thread.clock);
  result->seen[thread.agent] = thread.epoch;
  result->fenced[thread.agent] = thread.fenced;
  return result;
}

ClockPointer common(const std::vector<ClockPointer>& clocks) {
  if (std::find(clocks.begin(), clocks.end(), nullptr) != clocks.end()) return nullptr;
  const auto result = std::make_shared<Clock>(*clocks.front());
  for (const ClockPointer& clock : clocks)
    for (size_t i = 0; i < agents(); ++i) {
      result->seen[i] = std::min(result->seen[i], clock->seen[i]);
      result->fenced[i] = std::min(result->fenced[i], clock->fenced[i]);
    }
  return result;
}

}  // namespace mor::cuda_host::race
