// mbarriers: their phases, and what a thread that waits for one has seen.
#include "test/cuda_host/run/mbarrier.h"

#include <array>
#include <deque>
#include <string>

#include "test/cuda_host/run/cluster.h"
#include "test/cuda_host/run/threads.h"

namespace mor::cuda_host {

namespace {

constexpr uint64_t kMark = 0x7265697272616263;  // what the word of an mbarrier holds; a kernel must not write to it
constexpr int kMost = (1 << 20) - 1;            // arrivals of a phase, and bytes that have not come

struct State {
  uint64_t* word;
  int arrivals, missing;
  int64_t bytes = 0;  ///< announced bytes that have not come; less than 0: they have come before they were announced
  uint64_t phase = 0;
  uint32_t initialised_by;
  bool seen_by_copies = false;
  race::Gather gather;
  race::ClockPointer completed;  ///< of the phase before
  char waiting[2] = {};          ///< their addresses stand for the phases of each parity
};

/// Of each block of the cluster.
std::array<std::deque<State>, race::kMostInCluster> states;

State& state_of(int number) {
  return states[static_cast<size_t>(number / race::kMostMbarriers)][static_cast<size_t>(number % race::kMostMbarriers)];
}

int number_of(const uint64_t* word, const char* operation) {
  for (size_t rank = 0; rank < states.size(); ++rank)
    for (size_t i = 0; i < states[rank].size(); ++i) {
      if (states[rank][i].word != word) continue;
      if (*word != kMark) fail(std::string(operation) + ": something was written over the mbarrier");
      return static_cast<int>(rank * race::kMostMbarriers + i);
    }
  fail(std::string(operation) + ": the mbarrier was not initialised");
}

State& state_of(const uint64_t* word, const char* operation) {
  State& state = state_of(number_of(word, operation));
  race::access(word, sizeof *word, race::Kind::atomic);
  return state;
}

void end_phase_if_complete(State& b) {
  if (b.missing > 0 || b.bytes > 0) return;
  if (b.bytes < 0)
    fail("mbarrier: " + std::to_string(-b.bytes) + " bytes more have come than mbarrier_expect_bytes announced");
  b.completed = b.gather.take();
  b.missing = b.arrivals;
  wake(&b.waiting[b.phase++ % 2], b.completed);
}

void arrive(State& b, int bytes, const char* operation) {
  if (b.missing == 0)
    fail(std::string(operation) + ": more than " + std::to_string(b.arrivals) + " arrivals in one phase");
  --b.missing;
  b.bytes += bytes;
  if (b.bytes > kMost) fail(std::string(operation) + ": too many bytes in one phase");
  b.gather.add(running().moment);
  end_phase_if_complete(b);
}

}  // namespace

void mbarrier_init(uint64_t* word, int arrivals) {
  if (reinterpret_cast<uintptr_t>(word) % 8 != 0) fail("mbarrier_init: the address is no multiple of 8");
  if (arrivals < 1 || arrivals > kMost)
    fail("mbarrier_init: there cannot be " + std::to_string(arrivals) + " arrivals");
  for (const std::deque<State>& of_block : states)
    for (const State& b : of_block)
      if (b.word == word) fail("mbarrier_init: the mbarrier was initialised before");
  std::deque<State>& own = states[static_cast<size_t>(running().block->rank)];
  if (own.size() == race::kMostMbarriers) fail("mbarrier_init: the host run has no more mbarriers");
  race::access(word, sizeof *word, race::Kind::write);
  *word = kMark;
  State& b = own.emplace_back();
  b.word = word;
  b.arrivals = b.missing = arrivals;
  b.initialised_by = running().moment.agent;
}

void mbarrier_init_fence() {
  for (State& b : states[static_cast<size_t>(running().block->rank)])
    if (b.initialised_by == running().moment.agent) b.seen_by_copies = true;
}

void mbarrier_arrive(uint64_t* word) {
  arrive(state_of(word, "mbarrier_arrive"), 0, "mbarrier_arrive");
}

void mbarrier_arrive_in_block(uint64_t* word, int rank) {
  constexpr const char* kOperation = "mbarrier_arrive_in_block";
  State& b = state_of(static_cast<uint64_t*>(clusters::place_in(rank, word, kOperation)), kOperation);
  if (rank != running().block->rank) clusters::use(rank, running().moment.agent, running().moment.epoch);
  arrive(b, 0, kOperation);
}

void mbarrier_expect_bytes(uint64_t* word, int bytes) {
  if (bytes < 0) fail("mbarrier_expect_bytes: less than 0 bytes");
  arrive(state_of(word, "mbarrier_expect_bytes"), bytes, "mbarrier_expect_bytes");
}

void mbarrier_wait(uint64_t* word, uint32_t parity) {
  State& b = state_of(word, "mbarrier_wait");
  if (parity > 1) fail("mbarrier_wait: a parity is 0 or 1, not " + std::to_string(parity));
  if (b.phase % 2 == parity) return wait_for(&b.waiting[parity], "mbarrier_wait");
  race::see(running().moment, b.completed);
}

namespace mbarriers {

void begin_cluster() {
  for (std::deque<State>& of_block : states) of_block.clear();
}

std::string describe(const void* event) {
  for (const std::deque<State>& of_block : states)
    for (const State& b : of_block)
      if (event == &b.waiting[0] || event == &b.waiting[1])
        return " for phase " + std::to_string(b.phase) + ", in which " + std::to_string(b.missing) + " arrivals and " +
               std::to_string(b.bytes) + " bytes are missing";
  return "";
}

Use begin_copy(const uint64_t* word) {
  const int number = number_of(word, "tensor_copy_load");
  const State& b = state_of(number);
  race::access(word, sizeof *word, race::Kind::atomic);
  if (!b.seen_by_copies) fail("tensor_copy_load: there was no mbarrier_init_fence behind mbarrier_init");
  return {number, b.phase};
}

void arrive_bytes(const Use& use, int64_t bytes) {
  State& b = state_of(use.number);
  if (b.phase != use.phase)
    fail("mbarrier: a phase has ended before its copies; mbarrier_expect_bytes announced too few bytes");
  b.bytes -= bytes;
  b.gather.add(race::mbarrier_agent(use.number), epoch_of(use));
  end_phase_if_complete(b);
}

uint32_t epoch_of(const Use& use) {
  return static_cast<uint32_t>(use.phase) + 1;
}

}  // namespace mbarriers

}  // namespace mor::cuda_host
