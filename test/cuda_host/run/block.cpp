// Runs the threads of a cluster as fibers: which runs next, barriers, meetings of lanes, and what is reported as an
// error.
#include "test/cuda_host/run/block.h"

#include <algorithm>
#include <new>
#include <utility>

#include "test/cuda_host/run/threads.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace mor::cuda_host {

struct Meeting::State {
  uint32_t mask = 0, arrived = 0, left = 0;  ///< mask 0: not in use
  const char* operation = nullptr;
  alignas(16) Values values;
};

namespace {

/// Unwinds the stack of a thread whose block has failed. Kernels must not catch it.
struct Abandoned {};

Grid the_grid;

/// The index of thread `number` of a block of `size`, or of block `number` of a grid.
uint3 place(unsigned number, const dim3& size) {
  return {number % size.x, number / size.x % size.y, number / size.x / size.y};
}

/// The address that instructions know dynamic shared memory by; not 0, so that no address is.
constexpr uint64_t kSharedBegin = 1024;

uintptr_t distance_in_shared_memory(const void* address) {
  return reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(dynamic_shared_memory());
}

}  // namespace

Grid& grid() {
  return the_grid;
}

std::string name_of(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

void Thread::loop(void* argument) {
  auto* self = static_cast<Thread*>(argument);
  for (;;) {
    try {
      (*grid().kernel)();
      require_wait("a thread has ended");
    } catch (const Abandoned&) {
    } catch (...) {
      if (!grid().error) grid().error = std::current_exception();
    }
    clusters::end_thread();
    self->ended = true;
    self->fiber.suspend();
  }
}

void wait_for(const void* event, const char* operation) {
  Thread& self = running();
  self.waits_for = event;
  self.operation = operation;
  while (self.waits_for != nullptr) {
    self.fiber.suspend();
    if (grid().error) throw Abandoned{};
  }
}

void wake(const void* event, const race::ClockPointer& clock) {
  for (int t = 0; t < grid().count; ++t) {
    Thread& thread = *grid().threads[static_cast<size_t>(t)];
    if (thread.waits_for != event) continue;
    thread.waits_for = nullptr;
    race::see(thread.moment, clock);
  }
}

void Grid::begin_cluster(uint32_t cluster) {
  cluster_barrier = {};
  for (int rank = 0; rank < cluster_blocks; ++rank) {
    Block& block = blocks[static_cast<size_t>(rank)];
    block.rank = rank;
    block.index = place(cluster * static_cast<unsigned>(cluster_blocks) + static_cast<unsigned>(rank), ::gridDim);
    block.running = block_threads;
    for (Barrier& b : block.barriers) b = {};
    for (WarpSync& w : block.warp_syncs) w = {};
    for (auto& warp : block.meetings)
      for (auto& state : warp) state->mask = 0;
    std::memset(block.shared.get(), 0xff, shared_bytes);
  }
  for (int t = 0; t < count; ++t) {
    Thread& thread = *threads[static_cast<size_t>(t)];
    thread.block = &blocks[static_cast<size_t>(t / block_threads)];
    thread.number = t % block_threads;
    thread.index = place(static_cast<unsigned>(thread.number), blockDim);
    thread.ended = false;
    thread.waits_for = nullptr;
    thread.moment = {
        cluster, static_cast<uint32_t>(t), 1, 0, nullptr, !early, thread.fiber.stack_begin(), thread.fiber.stack_end()};
    thread.begun.clear();
    thread.groups.clear();
  }
  clusters::begin_cluster();
  mbarriers::begin_cluster();
  tensor_copies::begin_cluster();
  products::begin_cluster();
  registers::begin_cluster();
}

void Grid::run_cluster(uint32_t cluster) {
  begin_cluster(cluster);
  for (;;) {
    bool progress = false, all_ended = true;
    for (int i = 0; i < count; ++i) {
      Thread& thread = *threads[static_cast<size_t>(falling_threads ? count - 1 - i : i)];
      if (thread.ended) continue;
      all_ended = false;
      if (thread.waits_for != nullptr && !error) continue;
      current = &thread;
      ::threadIdx = thread.index;
      ::blockIdx = thread.block->index;
      race::run(&thread.moment);
      thread.fiber.resume();
      progress = true;
    }
    race::run(nullptr);
    current = nullptr;
    if (const race::Race race = race::take(); race && !error)
      error = std::make_exception_ptr(KernelError(describe(race)));
    try {
      if (all_ended && !error) {
        tensor_copies::end_cluster();
        products::end_cluster();
        clusters::end_cluster(cluster);
      }
      if (!all_ended && !progress && !tensor_copies::do_one()) throw KernelError(describe_deadlock());
    } catch (const KernelError&) {
      error = std::current_exception();
    }
    if (all_ended) break;
  }
  if (error) std::rethrow_exception(std::exchange(error, nullptr));
}

std::string Grid::describe_deadlock() const {
  int ended = 0, waiting = 0;
  const Thread* first = nullptr;
  for (int t = 0; t < count; ++t) {
    const Thread& thread = *threads[static_cast<size_t>(t)];
    (thread.ended ? ended : waiting) += 1;
    if (!thread.ended && first == nullptr) first = &thread;
  }
  return "deadlock in block " + cuda_host::name_of(first->block->index) + ": " + std::to_string(waiting) + " of " +
         std::to_string(count) + " threads wait for others that never come, " + std::to_string(ended) +
         " have ended; thread " + cuda_host::name_of(first->index) + " waits in " + first->operation +
         mbarriers::describe(first->waits_for);
}

std::string Grid::name_of(const race::Race::Place& p) const {
  const auto of_block = [&](uint32_t rank) {
    return " of block " + cuda_host::name_of(place(p.cluster * static_cast<unsigned>(cluster_blocks) + rank, gridDim));
  };
  const auto threads_of_block = static_cast<uint32_t>(block_threads);
  uint32_t n = p.agent;
  if (n < race::mbarrier_agent(0))
    return "thread " + cuda_host::name_of(place(n % threads_of_block, blockDim)) + of_block(n / threads_of_block);
  n = p.agent - race::mbarrier_agent(0);
  if (p.agent < race::warpgroup_agent(0)) return "a tensor_copy_load" + of_block(n / race::kMostMbarriers);
  n = p.agent - race::warpgroup_agent(0);
  return "wgmma of warpgroup " + std::to_string(n % race::kMostWarpgroups) + of_block(n / race::kMostWarpgroups);
}

std::string Grid::describe(const race::Race& race) const {
  const bool of_one_thread = race.earlier.cluster == race.later.cluster && race.earlier.agent == race.later.agent;
  const std::string earlier = of_one_thread ? ": " : ", and nothing orders them: " + name_of(race.earlier) + ", then ";
  return "race: " + race.what + earlier + name_of(race.later) + ", at " + race.where;
}

void run_grid(Dim3 grid_size, Dim3 block_size, size_t dynamic_shared_bytes, int cluster, bool early,
              const std::function<void()>& kernel) {
  Grid& g = grid();
  g.block_threads = static_cast<int>(block_size.x * block_size.y * block_size.z);
  g.cluster_blocks = cluster;
  g.count = cluster * g.block_threads;
  while (g.threads.size() < static_cast<size_t>(g.count)) g.threads.push_back(std::make_unique<Thread>());
  g.kernel = &kernel;
  g.early = early;
  ::gridDim = dim3(grid_size.x, grid_size.y, grid_size.z);
  ::blockDim = dim3(block_size.x, block_size.y, block_size.z);
  g.shared_bytes = dynamic_shared_bytes;
  struct Reset {
    Grid& g;
    ~Reset() {
      g.kernel = nullptr;
      for (Block& block : g.blocks) block.shared = nullptr;
      g.falling_blocks = !g.falling_blocks;
    }
  } reset{g};
  const uint64_t clusters = uint64_t{grid_size.x} * grid_size.y * grid_size.z / static_cast<unsigned>(cluster);
  race::begin_grid(clusters, cluster, g.block_threads);
  for (int rank = 0; rank < cluster; ++rank) {
    Block& block = g.blocks[static_cast<size_t>(rank)];
    const auto warps = static_cast<size_t>((g.block_threads + kWarpSize - 1) / kWarpSize);
    if (block.meetings.size() < warps) block.meetings.resize(warps);
    block.warp_syncs.resize(block.meetings.size());
    // Exactly as many bytes as the launch has, so that AddressSanitizer finds an access to the first byte behind them.
    void* memory = nullptr;
    if (posix_memalign(&memory, 1024, dynamic_shared_bytes) != 0) throw std::bad_alloc();
    block.shared.reset(memory);
    race::set_shared_memory(rank, memory, dynamic_shared_bytes);
  }
  for (uint64_t i = 0; i < clusters; ++i) {
    g.falling_threads = !g.falling_threads;
    g.run_cluster(static_cast<uint32_t>(g.falling_blocks ? clusters - 1 - i : i));
  }
}

bool in_kernel() {
  return grid().kernel != nullptr;
}

void* dynamic_shared_memory() {
  return running().block->shared.get();
}

void require_global(const void* address, const char* operation) {
  if (distance_in_shared_memory(address) < grid().shared_bytes)
    fail(std::string(operation) + ": the address lies in shared memory");
}

uint64_t shared_address(const void* address) {
  const uintptr_t distance = distance_in_shared_memory(address);
  if (distance >= grid().shared_bytes) fail("the address does not lie in dynamic shared memory");
  return kSharedBegin + distance;
}

uint8_t* at_shared_address(uint64_t address, size_t bytes, const char* operation) {
  const uint64_t place = address - kSharedBegin;
  if (address < kSharedBegin || place + bytes > grid().shared_bytes)
    fail(std::string(operation) + ": " + std::to_string(bytes) + " bytes at " + std::to_string(place) +
         " are not in the dynamic shared memory of " + std::to_string(grid().shared_bytes) + " bytes");
  return static_cast<uint8_t*>(dynamic_shared_memory()) + place;
}

int lane() {
  return grid().current->number % kWarpSize;
}

int block_threads() {
  return grid().block_threads;
}

void wait_for_earlier_kernels() {
  running().moment.waited = true;
}

void require_wait(const char* operation) {
  if (!running().moment.waited) fail(std::string(operation) + " before wait_for_earlier_kernels");
}

void begin_async_copy(const AsyncCopy& copy) {
  require_wait("cp.async");
  // On a GPU the bytes are copied at any time from now until the thread has waited for them.
  race::access(copy.from, copy.copied, race::Kind::read);
  race::access(copy.to, copy.bytes, race::Kind::write);
  grid().current->begun.push_back(copy);
}

void commit_async_copies() {
  Thread& self = *grid().current;
  self.groups.push_back(std::exchange(self.begun, {}));
}

void wait_async_copies(unsigned pending) {
  auto& groups = grid().current->groups;
  for (; groups.size() > pending; groups.pop_front())
    for (const AsyncCopy& copy : groups.front()) {
      race::access(copy.to, copy.bytes, race::Kind::write);
      std::memcpy(copy.to, copy.from, copy.copied);
      std::memset(static_cast<char*>(copy.to) + copy.copied, 0, copy.bytes - copy.copied);
    }
}

void fail(const std::string& message) {
  const Thread* thread = grid().current;
  const std::string of_thread = thread == nullptr ? "" : ", thread " + name_of(thread->index);
  throw KernelError(message + " (block " + name_of(::blockIdx) + of_thread + ")");
}

namespace {

Barrier& barrier_of(int id, const char* operation) {
  if (id < 0 || id >= kMaxBarriers) fail(std::string(operation) + ": there is no barrier " + std::to_string(id));
  return running().block->barriers[static_cast<size_t>(id)];
}

/// The running thread arrives. Returns what threads have seen that wait for the barrier, if it is the last to come.
std::pair<bool, race::ClockPointer> arrive(Barrier& barrier, int threads, const char* operation) {
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads)
    fail(std::string(operation) + ": a barrier is waited for with " + std::to_string(barrier.expected) + " and with " +
         std::to_string(threads) + " threads");
  barrier.gather.add(running().moment);
  if (++barrier.arrived < barrier.expected) return {false, nullptr};
  barrier.arrived = 0;
  const race::ClockPointer clock = barrier.gather.take();
  wake(&barrier, clock);
  return {true, clock};
}

}  // namespace

void meet(Barrier& barrier, int threads, const char* operation) {
  const auto [last, clock] = arrive(barrier, threads, operation);
  if (last)
    race::see(running().moment, clock);
  else
    wait_for(&barrier, operation);
}

void barrier_sync(int id, int threads, const char* operation) {
  meet(barrier_of(id, operation), threads, operation);
}

void barrier_arrive(int id, int threads, const char* operation) {
  arrive(barrier_of(id, operation), threads, operation);
}

Meeting::Meeting(uint32_t mask, const char* operation, const void* value, size_t bytes, void (*finish)(Values&)) {
  Grid& g = grid();
  Thread& self = *g.current;
  const uint32_t me = 1u << lane();
  const int warp = self.number / kWarpSize, present = g.block_threads - warp * kWarpSize;
  if ((mask & me) == 0) fail(std::string(operation) + ": the lane is not in the mask it calls with");
  if (present < kWarpSize && (mask >> present) != 0)
    fail(std::string(operation) + ": the mask names lanes that the block does not have");
  auto& meetings = self.block->meetings[static_cast<size_t>(warp)];
  state_ = nullptr;
  State* unused = nullptr;
  for (const auto& m : meetings) {
    if (m->mask == 0) unused = m.get();
    if (m->mask == mask && m->arrived != mask && (m->arrived & me) == 0) state_ = m.get();
  }
  if (state_ == nullptr) {
    if (unused == nullptr) unused = meetings.emplace_back(std::make_unique<State>()).get();
    state_ = unused;
    state_->mask = mask;
    state_->arrived = state_->left = 0;
    state_->operation = operation;
  }
  if (state_->operation != operation && std::strcmp(state_->operation, operation) != 0)
    fail(std::string("lanes of one warp meet in different operations: ") + state_->operation + " and " + operation);
  std::memcpy(state_->values[lane()], value, bytes);
  state_->arrived |= me;
  if (state_->arrived == mask) {
    if (finish != nullptr) finish(state_->values);
    for (int l = 0; l < std::min(present, kWarpSize); ++l) {
      Thread& other = *g.threads[static_cast<size_t>(self.block->rank * g.block_threads + warp * kWarpSize + l)];
      if (other.waits_for == state_) other.waits_for = nullptr;
    }
  } else {
    wait_for(state_, operation);
  }
}

Meeting::~Meeting() {
  state_->left |= 1u << lane();
  if (state_->left == state_->mask) state_->mask = 0;
}

void warp_sync(uint32_t mask) {
  Thread& self = running();
  WarpSync& sync = self.block->warp_syncs[static_cast<size_t>(self.number / kWarpSize)];
  if (mask == 0xffffffffu) {
    sync.gather.add(self.moment);
    ++sync.arrived;
  }
  const Meeting meeting(mask, "__syncwarp", 0);
  if (mask != 0xffffffffu) return;
  if (sync.arrived == kWarpSize) {  // the first lane that goes on
    sync.clock = sync.gather.take();
    sync.arrived = 0;
  }
  race::see(self.moment, sync.clock);
}

const void* Meeting::bytes_from(int other) const {
  if (other < 0 || other >= kWarpSize || (state_->mask >> other & 1) == 0)
    fail(std::string(state_->operation) + ": reads from lane " + std::to_string(other) + ", which is not in the mask");
  return state_->values[other];
}

}  // namespace mor::cuda_host
