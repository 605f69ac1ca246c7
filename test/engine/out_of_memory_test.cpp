// Tests of scheduler and engine on a host that runs out of memory: every allocation of a small run fails in turn, alone
// or with those after it. Every request ends all the same, with what it gets alone or with OUT_OF_MEMORY.
#include <cstdlib>
#include <new>
#include <utility>

#include "test/engine/ghost_device.h"
#include "test/engine/support.h"

namespace {

// Allocations are numbered while `counting`; those from `fail_from` up to `fail_to` fail.
bool counting = false;
int64_t allocations = 0, fail_from = 0, fail_to = 0;

void* allocate(size_t bytes) {
  if (counting) {
    ++allocations;
    if (allocations >= fail_from && allocations < fail_to) throw std::bad_alloc();
  }
  void* pointer = std::malloc(bytes > 0 ? bytes : 1);
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

}  // namespace

void* operator new(size_t bytes) {
  return allocate(bytes);
}
void* operator new[](size_t bytes) {
  return allocate(bytes);
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  try {
    return allocate(bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* pointer) noexcept {
  std::free(pointer);
}
void operator delete[](void* pointer) noexcept {
  std::free(pointer);
}
void operator delete(void* pointer, size_t) noexcept {
  std::free(pointer);
}
void operator delete[](void* pointer, size_t) noexcept {
  std::free(pointer);
}

namespace mor::test {
namespace {

/// Whether `call` returned instead of throwing std::bad_alloc. Counts its allocations.
template <class Call>
bool survives(const Call& call) {
  counting = true;
  try {
    call();
    counting = false;
    return true;
  } catch (const std::bad_alloc&) {
    counting = false;
    return false;
  }
}

SchedulerConfig tight_config(KvCachePolicy policy) {
  SchedulerConfig c;
  c.rules.num_recursions = 2;
  c.rules.block_recurs = true;
  c.rules.router = RouterType::expert_choice;
  c.rules.kv_cache = policy;
  c.rules.runs_all = {true, false};
  c.blocks = 20;
  c.scratch_blocks = policy == KvCachePolicy::shared ? 4 : 0;
  c.block_size = c.outside_block_size = 2;
  c.block_stride = c.outside_block_stride = 2;
  c.max_batch_size = 2;
  c.max_sequences = 3;
  c.prefill_chunk = 5;
  return c;
}

/// Requests with common beginnings in a cache that does not hold all of them. One request is aborted, and one of high
/// priority displaces others.
class Traffic {
 public:
  explicit Traffic(KvCachePolicy policy) : config_(tight_config(policy)), scheduler_(config_), device_(config_, 3) {
    for (uint64_t id = 0; id < 6; ++id) {
      Request r;
      r.id = id;
      r.seed = id % 2;
      r.prompt = {1, 2, 3, 4, static_cast<int32_t>(id / 2)};
      r.max_tokens = 8;
      r.priority = id == 4 ? 1 : 0;
      r.score_threshold = 0.5;
      r.max_recursions = 2;
      requests_.push_back(r);
    }
  }

  void go() {
    std::vector<RequestEvent> events;
    for (size_t step = 0; step < 12 || scheduler_.unfinished(); ++step) {
      ASSERT_LT(step, 1000u) << "the run does not end";
      if (step % 2 == 0 && step / 2 < requests_.size()) submit(step / 2);
      if (step == 5) scheduler_.abort(1);
      step_once(events);
      if (testing::Test::HasFailure()) return;
    }
    check(events);
  }
  int64_t preemptions() const { return scheduler_.stats().preemptions; }
  int64_t hits() const { return scheduler_.stats().prefix_hit_tokens; }
  size_t failed() const { return failed_; }

 private:
  void submit(size_t i) {
    Request copy = requests_[i];
    if (!survives([&] { scheduler_.submit(std::move(copy)); })) refused_.insert(i);
  }
  /// One step, as Engine::step takes it.
  void step_once(std::vector<RequestEvent>& events) {
    const bool stages = survives([&] {
      scheduler_.begin_step(events);
      run(scheduler_.plan_entry(), &GhostDevice::run_entry, [&](const auto& o) { scheduler_.commit_rows(o); });
      run(scheduler_.plan_block(), &GhostDevice::run_block, [&](const auto& o) { scheduler_.commit_rows(o); });
      run(scheduler_.plan_exit(), &GhostDevice::run_exit, [&](const auto& o) { scheduler_.commit_exit(o, events); });
    });
    if (!stages) survives([&] { scheduler_.fail_running(ErrorCode::OUT_OF_MEMORY, "the host has no memory left"); });
    survives([&] { scheduler_.begin_step(events); });
  }
  template <class Commit>
  void run(const StagePlan* plan, StageOutcome (GhostDevice::*stage)(const StagePlan&), const Commit& commit) {
    if (plan == nullptr) return;
    counting = false;
    const StageOutcome outcome = (device_.*stage)(*plan);
    counting = true;
    scheduler_.prepare();
    commit(outcome);
  }
  void check(const std::vector<RequestEvent>& events) {
    std::map<uint64_t, int32_t> tokens;
    std::set<uint64_t> ended;
    for (const RequestEvent& event : events) {
      ASSERT_EQ(ended.count(event.request), 0u);
      const Request& request = requests_[event.request];
      if (event.kind == RequestEvent::Kind::token) {
        EXPECT_EQ(event.token, device_.token(request, tokens[event.request]++));
        continue;
      }
      if (event.kind == RequestEvent::Kind::prompt) continue;
      ended.insert(event.request);
      if (event.reason == FinishReason::length) {
        EXPECT_EQ(tokens[event.request], request.max_tokens);
      } else if (event.reason == FinishReason::abort) {
        EXPECT_EQ(event.request, 1u);
      } else {
        EXPECT_EQ(event.reason, FinishReason::error);
        EXPECT_EQ(event.code, ErrorCode::OUT_OF_MEMORY);
        EXPECT_EQ(event.message, "the host has no memory left");
        ++failed_;
      }
    }
    for (uint64_t id = 0; id < requests_.size(); ++id)
      EXPECT_NE(ended.count(id), refused_.count(id)) << "request " << id;
    failed_ += refused_.size();
    const SchedulerStats stats = scheduler_.stats();
    EXPECT_EQ(stats.kv_blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
    scheduler_.forget_prefixes();
    EXPECT_EQ(scheduler_.stats().kv_blocks_cached, 0);
    // Every row of the stream is free again: more requests than fit run, each with a prompt of `prefill_chunk` tokens.
    fail_from = fail_to = 0;
    for (uint64_t id = 100; id < 106; ++id) {
      Request r;
      r.id = id;
      r.prompt = {9, 8, 7, 6, 5};
      r.max_tokens = 3;
      r.max_recursions = 2;
      scheduler_.submit(r);
    }
    std::vector<RequestEvent> later;
    for (int step = 0; scheduler_.unfinished(); ++step) {
      ASSERT_LT(step, 1000);
      step_once(later);
    }
    EXPECT_EQ(later.size(), 6u * 4);
  }

  SchedulerConfig config_;
  Scheduler scheduler_;
  GhostDevice device_;
  std::vector<Request> requests_;
  std::set<size_t> refused_;
  size_t failed_ = 0;
};

class OutOfMemory : public testing::TestWithParam<KvCachePolicy> {};

TEST_P(OutOfMemory, AtAnyAllocationLosesNothing) {
  allocations = fail_from = fail_to = 0;
  Traffic whole(GetParam());
  whole.go();
  EXPECT_EQ(whole.failed(), 0u);
  EXPECT_GT(whole.preemptions(), 0);
  EXPECT_GT(whole.hits(), 0);
  const int64_t all = allocations;
  EXPECT_GT(all, 100);
  for (const int64_t failures : {1, 3, 40})
    for (int64_t first = 1; first <= all; ++first) {
      SCOPED_TRACE(concat("allocations ", first, " to ", first + failures - 1, " of ", all));
      allocations = 0;
      fail_from = first;
      fail_to = first + failures;
      Traffic traffic(GetParam());
      traffic.go();
      if (testing::Test::HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(All, OutOfMemory,
                         testing::Values(KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid),
                         [](const auto& info) {
                           return info.param == KvCachePolicy::recursion_wise ? "recursion_wise"
                                  : info.param == KvCachePolicy::shared       ? "shared"
                                                                              : "hybrid";
                         });

class EngineOutOfMemory : public testing::TestWithParam<RouterType> {};

/// With a device that computes, allocations of the runner, the sampler and the ops fail too.
TEST_P(EngineOutOfMemory, AtAnyAllocationAStepThrowsNothing) {
  ModelConfig config = tiny_config();
  config.num_hidden_layers = 5;
  config.num_recursions = 3;
  set_router(config, GetParam());
  Model model(config, std::make_unique<RefOps<float>>());
  model.init(3);
  std::vector<Wanted> wanted(3);
  for (size_t i = 0; i < wanted.size(); ++i) {
    wanted[i].prompt = random_tokens(4 + static_cast<int64_t>(i), config.vocab_size, 5);
    wanted[i].params.max_tokens = 3;
  }
  EngineOptions options;
  options.block_size = 2;
  options.max_batch_size = 2;
  fail_from = fail_to = 0;
  std::map<uint64_t, Generated> expected;
  {
    Engine engine(model, options);
    expected = run_engine(engine, wanted);
  }
  const auto run = [&] {
    Engine engine(model, options);
    std::map<uint64_t, Generated> results;
    size_t refused = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      std::vector<int32_t> prompt = wanted[i].prompt;
      const bool taken = survives([&] { engine.submit(i, std::move(prompt), wanted[i].params); });
      if (!taken) ++refused;
    }
    const auto to_the_end = [&] {
      for (bool unfinished = true; unfinished;) {
        std::vector<RequestEvent> events;
        EXPECT_TRUE(survives([&] { unfinished = engine.step(events); }));
        collect(events, results);
      }
    };
    to_the_end();
    EXPECT_EQ(results.size() + refused, wanted.size());
    for (const auto& [id, generated] : results) {
      ASSERT_TRUE(generated.finished);
      if (generated.reason == FinishReason::error) {
        EXPECT_EQ(generated.code, ErrorCode::OUT_OF_MEMORY);
      } else {
        expect_same_bits(generated, expected.at(id));
      }
    }
    EXPECT_EQ(engine.stats().kv_blocks_used, 0);
    const int64_t from = std::exchange(fail_from, 0), to = std::exchange(fail_to, 0);
    const std::map<uint64_t, Generated> again = run_engine(engine, wanted);
    for (const auto& [id, generated] : again) expect_same_bits(generated, expected.at(id));
    fail_from = from;
    fail_to = to;
  };
  allocations = 0;
  run();
  const int64_t all = allocations;
  EXPECT_GT(all, 100);
  for (const int64_t failures : {1, 40})
    for (int64_t first = 1; first <= all; ++first) {
      SCOPED_TRACE(concat("allocations ", first, " to ", first + failures - 1, " of ", all));
      allocations = 0;
      fail_from = first;
      fail_to = first + failures;
      run();
      if (testing::Test::HasFailure()) return;
    }
}

INSTANTIATE_TEST_SUITE_P(All, EngineOutOfMemory,
                         testing::Values(RouterType::none, RouterType::expert_choice, RouterType::token_choice),
                         [](const auto& info) {
                           return info.param == RouterType::none            ? "recursive"
                                  : info.param == RouterType::expert_choice ? "expert"
                                                                            : "token";
                         });

}  // namespace
}  // namespace mor::test
