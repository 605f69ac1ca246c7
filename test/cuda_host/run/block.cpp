// Runs the threads of a block as fibers: which runs next, barriers, meetings of lanes, and what is reported as an
// error.
#include "test/cuda_host/run/block.h"

#include <algorithm>
#include <cstdlib>
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

std::string name_of(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

/// The address that instructions know dynamic shared memory by; not 0, so that no address is.
constexpr uint64_t kSharedBegin = 1024;

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};

}  // namespace

Grid& grid() {
  return the_grid;
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

void Grid::begin_block(uint32_t block) {
  for (Barrier& b : barriers) b = {};
  for (WarpSync& w : warp_syncs) w = {};
  for (auto& warp : meetings)
    for (auto& state : warp) state->mask = 0;
  for (int t = 0; t < count; ++t) {
    Thread& thread = *threads[static_cast<size_t>(t)];
    const auto n = static_cast<unsigned>(t);
    thread.number = t;
    thread.index = place(n, blockDim);
    thread.ended = false;
    thread.waits_for = nullptr;
    thread.moment = {block, n, 1, 0, nullptr, !early, thread.fiber.stack_begin(), thread.fiber.stack_end()};
    thread.begun.clear();
    thread.groups.clear();
  }
  mbarriers::begin_block();
  tensor_copies::begin_block();
  products::begin_block();
  registers::begin_block();
}

void Grid::run_block(uint32_t block) {
  begin_block(block);
  for (;;) {
    bool progress = false, all_ended = true;
    for (int i = 0; i < count; ++i) {
      Thread& thread = *threads[static_cast<size_t>(falling_threads ? count - 1 - i : i)];
      if (thread.ended) continue;
      all_ended = false;
      if (thread.waits_for != nullptr && !error) continue;
      current = &thread;
      ::threadIdx = thread.index;
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
        tensor_copies::end_block();
        products::end_block();
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
  return "deadlock in block " + cuda_host::name_of(::blockIdx) + ": " + std::to_string(waiting) + " of " +
         std::to_string(count) + " threads wait for others that never come, " + std::to_string(ended) +
         " have ended; thread " + cuda_host::name_of(first->index) + " waits in " + first->operation +
         mbarriers::describe(first->waits_for);
}

std::string Grid::name_of(const race::Race::Place& p) const {
  const std::string of_block = " of block " + cuda_host::name_of(place(p.block, gridDim));
  if (p.agent < race::mbarrier_agent(0)) return "thread " + cuda_host::name_of(place(p.agent, blockDim)) + of_block;
  if (p.agent < race::warpgroup_agent(0)) return "a tensor_copy_load" + of_block;
  return "wgmma of warpgroup " + std::to_string(p.agent - race::warpgroup_agent(0)) + of_block;
}

std::string Grid::describe(const race::Race& race) const {
  const bool of_one_thread = race.earlier.block == race.later.block && race.earlier.agent == race.later.agent;
  const std::string earlier = of_one_thread ? ": " : ", and nothing orders them: " + name_of(race.earlier) + ", then ";
  return "race: " + race.what + earlier + name_of(race.later) + ", at " + race.where;
}

void run_grid(Dim3 grid_size, Dim3 block_size, size_t dynamic_shared_bytes, bool early,
              const std::function<void()>& kernel) {
  Grid& g = grid();
  g.count = static_cast<int>(block_size.x * block_size.y * block_size.z);
  while (g.threads.size() < static_cast<size_t>(g.count)) g.threads.push_back(std::make_unique<Thread>());
  g.meetings.resize((g.threads.size() + kWarpSize - 1) / kWarpSize);
  g.warp_syncs.resize(g.meetings.size());
  g.kernel = &kernel;
  g.early = early;
  ::gridDim = dim3(grid_size.x, grid_size.y, grid_size.z);
  ::blockDim = dim3(block_size.x, block_size.y, block_size.z);
  // Exactly as many bytes as the launch has, so that AddressSanitizer finds an access to the first byte behind them.
  void* memory = nullptr;
  if (posix_memalign(&memory, 1024, dynamic_shared_bytes) != 0) throw std::bad_alloc();
  const std::unique_ptr<void, FreeDeleter> shared(memory);
  g.shared = memory;
  g.shared_bytes = dynamic_shared_bytes;
  const uint64_t blocks = uint64_t{grid_size.x} * grid_size.y * grid_size.z;
  race::begin_grid(blocks, g.count);
  race::set_shared_memory(memory, dynamic_shared_bytes);
  struct Reset {
    Grid& g;
    ~Reset() {
      g.kernel = nullptr;
      g.shared = nullptr;
      g.falling_blocks = !g.falling_blocks;
    }
  } reset{g};
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t b = g.falling_blocks ? blocks - 1 - i : i;
    ::blockIdx = place(static_cast<unsigned>(b), ::gridDim);
    std::memset(memory, 0xff, dynamic_shared_bytes);
    g.falling_threads = !g.falling_threads;
    g.run_block(static_cast<uint32_t>(b));
  }
}

bool in_kernel() {
  return grid().kernel != nullptr;
}

void* dynamic_shared_memory() {
  return grid().shared;
}

void require_global(const void* address, const char* operation) {
  const auto distance = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(grid().shared);
  if (distance < grid().shared_bytes) fail(std::string(operation) + ": the address lies in shared memory");
}

uint64_t shared_address(const void* address) {
  const auto distance = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(grid().shared);
  if (distance >= grid().shared_bytes) fail("the address does not lie in dynamic shared memory");
  return kSharedBegin + distance;
}

uint8_t* at_shared_address(uint64_t address, size_t bytes, const char* operation) {
  const uint64_t place = address - kSharedBegin;
  if (address < kSharedBegin || place + bytes > grid().shared_bytes)
    fail(std::string(operation) + ": " + std::to_string(bytes) + " bytes at " + std::to_string(place) +
         " are not in the dynamic shared memory of " + std::to_string(grid().shared_bytes) + " bytes");
  return static_cast<uint8_t*>(grid().shared) + place;
}

int lane() {
  return grid().current->number % kWarpSize;
}

int block_threads() {
  return grid().count;
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

/// The running thread arrives. Returns what threads have seen that wait for the barrier, if it is the last to come.
std::pair<bool, race::ClockPointer> arrive(int id, int threads, const char* operation) {
  Grid& g = grid();
  if (id < 0 || id >= kMaxBarriers) fail(std::string(operation) + ": there is no barrier " + std::to_string(id));
  Barrier& barrier = g.barriers[static_cast<size_t>(id)];
  if (barrier.arrived == 0) barrier.expected = threads;
  if (barrier.expected != threads)
    fail(std::string(operation) + ": barrier " + std::to_string(id) + " is waited for with " +
         std::to_string(barrier.expected) + " and with " + std::to_string(threads) + " threads");
  barrier.gather.add(g.current->moment);
  if (++barrier.arrived < barrier.expected) return {false, nullptr};
  barrier.arrived = 0;
  const race::ClockPointer clock = barrier.gather.take();
  wake(&barrier, clock);
  return {true, clock};
}

}  // namespace

void barrier_sync(int id, int threads, const char* operation) {
  const auto [last, clock] = arrive(id, threads, operation);
  if (last)
    race::see(running().moment, clock);
  else
    wait_for(&grid().barriers[static_cast<size_t>(id)], operation);
}

void barrier_arrive(int id, int threads, const char* operation) {
  arrive(id, threads, operation);
}

Meeting::Meeting(uint32_t mask, const char* operation, const void* value, size_t bytes, void (*finish)(Values&)) {
  Grid& g = grid();
  Thread& self = *g.current;
  const uint32_t me = 1u << lane();
  const int warp = self.number / kWarpSize, present = g.count - warp * kWarpSize;
  if ((mask & me) == 0) fail(std::string(operation) + ": the lane is not in the mask it calls with");
  if (present < kWarpSize && (mask >> present) != 0)
    fail(std::string(operation) + ": the mask names lanes that the block does not have");
  auto& meetings = g.meetings[static_cast<size_t>(warp)];
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
      Thread& other = *g.threads[static_cast<size_t>(warp * kWarpSize + l)];
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
  WarpSync& sync = grid().warp_syncs[static_cast<size_t>(self.number / kWarpSize)];
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
