// Team: how helper threads wait, wake up and share out parts.
#include "core/team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/control_group.h"

namespace mor {

namespace {

constexpr int kMostThreads = 1024;
constexpr size_t kLine = 64;  // bytes of a cache line

/// How long a helper spins for the next job before it sleeps: longer than the gaps between the ops of a step, and short
/// enough to free the core for others soon. Waking a helper takes some 50 microseconds.
constexpr std::chrono::microseconds kPatience{200};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("isb");  // "yield" does nothing on most processors
#endif
}

/// The parts of one thread that no thread has begun. One word holds both ends: the owner takes the first part, others
/// the last.
struct alignas(kLine) Stretch {
  std::atomic<uint64_t> ends{0};

  void set(uint32_t begin, uint32_t end) { ends.store(uint64_t{end} << 32 | begin, std::memory_order_relaxed); }
  bool take(bool first, int64_t& part) {
    uint64_t seen = ends.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t begin = static_cast<uint32_t>(seen), end = static_cast<uint32_t>(seen >> 32);
      if (begin >= end) return false;
      const uint64_t left = first ? uint64_t{end} << 32 | (begin + 1) : uint64_t{end - 1} << 32 | begin;
      if (!ends.compare_exchange_weak(seen, left, std::memory_order_relaxed)) continue;
      part = first ? begin : end - 1;
      return true;
    }
  }
};

}  // namespace

struct Team::State {
  std::atomic<bool> taken{false};  ///< whether a thread runs a job on the team
  Job job;                         ///< helpers may read it while they are `inside` and it is `open`
  Stretch stretches[kMostThreads];

  // A helper increments `inside`, works if the job is open, and decrements `inside`. The job's owner closes the job and
  // waits until `inside` is 0. By sequential consistency the helper sees the job closed or the owner sees the helper.
  alignas(kLine) std::atomic<bool> open{false};
  alignas(kLine) std::atomic<int> inside{0};
  alignas(kLine) std::atomic<uint32_t> jobs{0};  ///< number of jobs so far; helpers wait until it changes
  std::atomic<int> asleep{0};

  std::mutex growth;
  std::atomic<int> helpers{0};
  bool full = false;  ///< the system refused another thread; the existing ones run all parts

  std::atomic<bool> failed{false};  ///< whether a part of the job threw
  std::exception_ptr error;         ///< what the first such part threw

  void run(int64_t part, int thread) noexcept {
    try {
      job.call(job.body, part, thread);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }

  void work(int thread) noexcept {
    for (int i = 0; i < job.threads; ++i) {
      Stretch& stretch = stretches[(thread + i) % job.threads];
      for (int64_t part; stretch.take(i == 0, part) && !failed.load(std::memory_order_relaxed);) run(part, thread);
    }
  }

  void wait_for_job(uint32_t seen) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    do {
      for (int i = 0; i < 64; ++i) {
        if (jobs.load() != seen) return;
        pause();
      }
    } while (Clock::now() - begin < kPatience);
    asleep.fetch_add(1);
    jobs.wait(seen);
    asleep.fetch_sub(1);
  }

  void help(int thread) {
    for (uint32_t seen = 0;;) {
      wait_for_job(seen);
      seen = jobs.load();
      inside.fetch_add(1);
      if (open.load() && thread < job.threads) work(thread);
      inside.fetch_sub(1);
    }
  }

  void grow(int threads) {
    const std::lock_guard<std::mutex> lock(growth);
    try {
      for (int thread = helpers.load() + 1; thread < threads && !full; ++thread) {
        std::thread([this, thread] { help(thread); }).detach();
        helpers.store(thread);
      }
    } catch (const std::system_error&) {
      full = true;
    } catch (const std::bad_alloc&) {
      // The job goes on with the helpers that there are; the next one tries again.
    }
  }
};

int usable_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return static_cast<int>(std::max(1.0, std::min<double>(processors, std::floor(control_group_limits().processors))));
}

Team::Team() : state_(new State) {}

Team& Team::of_process() {
  static Team* team = new Team;
  return *team;
}

void Team::run(const Job& job) {
  State& s = *state_;
  MOR_CHECK(job.parts < UINT32_MAX, INTERNAL, "a job of ", job.parts, " parts");
  Job own = job;
  own.threads = static_cast<int>(std::min<int64_t>({job.threads, job.parts, kMostThreads}));
  if (own.threads <= 1 || s.taken.exchange(true)) {
    for (int64_t part = 0; part < job.parts; ++part) job.call(job.body, part, 0);
    return;
  }
  if (s.helpers.load() + 1 < own.threads) s.grow(own.threads);
  s.job = own;
  s.failed = false;
  for (int64_t i = 0; i < own.threads; ++i)
    s.stretches[i].set(static_cast<uint32_t>(job.parts * i / own.threads),
                       static_cast<uint32_t>(job.parts * (i + 1) / own.threads));
  s.open.store(true);
  s.jobs.fetch_add(1);
  if (s.asleep.load() > 0) s.jobs.notify_all();
  s.work(0);
  s.open.store(false);
  for (int looks = 0; s.inside.load() != 0; ++looks)
    if (looks < 4096)
      pause();
    else
      sched_yield();  // a helper may be waiting for this core
  const std::exception_ptr error = std::exchange(s.error, nullptr);
  s.taken.store(false);
  if (error) std::rethrow_exception(error);
}

}  // namespace mor
