// The scheduler simulated with no device: random depths, arrivals and aborts. Blocks are conserved, every row sees its
// own keys, depth only rises, nobody starves, what a request gets does not depend on who else is there, and the
// boundary stages run when that pays. Must not know of models.
#include "engine/scheduler.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <random>

#include "test/engine/ghost_device.h"

namespace mor::test {
namespace {

SchedulerConfig small_config(DepthSource source, KeyPolicy policy, int32_t blocks) {
  SchedulerConfig c;
  c.recursions = 3;
  c.depth_source = source;
  c.key_policy = policy;
  c.runs_all = {true, false, false};
  c.blocks = blocks;
  c.block_size = 4;
  c.block_stride = 2 * 3;  // three layers in the block, two outside
  c.outside_block_size = 6;
  c.outside_block_stride = 2 * 2;
  c.max_batch_size = 4;
  c.max_sequences = 8;
  c.prefill_chunk = 7;
  c.scratch_blocks = policy == KeyPolicy::shared ? 3 : 0;
  return c;
}

/// Many begin like others, and some go on like others, too.
Request random_request(uint64_t id, std::mt19937& random, int32_t recursions) {
  Request r;
  r.id = id;
  r.seed = random() % 3;
  r.prompt.resize(1 + random() % 20);
  const size_t common = random() % 3 == 0 ? 0 : random() % 21;
  for (size_t i = 0; i < r.prompt.size(); ++i) r.prompt[i] = static_cast<int32_t>(i < common ? i : random() % 1000);
  r.max_tokens = 1 + static_cast<int32_t>(random() % 15);
  r.score_threshold = 0.4;
  r.max_recursions = recursions - (recursions > 1 && random() % 4 == 0 ? 1 : 0);
  r.logprobs = true;
  return r;
}

/// One simulated engine.
struct Simulation {
  Scheduler scheduler;
  GhostDevice device;
  std::map<uint64_t, std::vector<EngineEvent>> events;

  Simulation(const SchedulerConfig& config, uint64_t seed) : scheduler(config), device(config, seed) {}

  void step() {
    std::vector<EngineEvent> found;
    scheduler.begin_step(found);
    if (const StagePlan* plan = scheduler.plan_entry()) scheduler.commit_entry(device.run_entry(*plan));
    if (const StagePlan* plan = scheduler.plan_block()) scheduler.commit_block(device.run_block(*plan));
    if (const StagePlan* plan = scheduler.plan_exit()) scheduler.commit_exit(device.run_exit(*plan), found);
    for (EngineEvent& event : found) events[event.request].push_back(event);
  }

  /// A request's events are a function of the request alone.
  void check(const Request& request, bool aborted) {
    SCOPED_TRACE(concat("request ", request.id));
    const std::vector<EngineEvent>& all = events[request.id];
    ASSERT_FALSE(all.empty());
    const int32_t tokens = static_cast<int32_t>(all.size()) - 1;
    for (int32_t i = 0; i < tokens; ++i) {
      const EngineEvent& event = all[static_cast<size_t>(i)];
      ASSERT_EQ(event.kind, EngineEvent::Kind::token);
      EXPECT_EQ(event.token, device.token(request, i));
      EXPECT_EQ(event.depth, device.depth(request, static_cast<int32_t>(request.prompt.size()) - 1 + i));
    }
    ASSERT_EQ(all.back().kind, EngineEvent::Kind::finish);
    if (all.back().reason == FinishReason::abort) {
      EXPECT_TRUE(aborted);
    } else {
      EXPECT_EQ(all.back().reason, FinishReason::length);
      EXPECT_EQ(tokens, request.max_tokens);
    }
  }
};

struct Case {
  const char* name;
  DepthSource source;
  KeyPolicy policy;
  bool runs_first, outside;
  int32_t recursions;
};
class SchedulerCase : public testing::TestWithParam<Case> {
 protected:
  SchedulerConfig config(int32_t blocks) const {
    SchedulerConfig c = small_config(GetParam().source, GetParam().policy, blocks);
    c.runs_all[0] = GetParam().runs_first;
    c.layers_outside_block = GetParam().outside;
    if (GetParam().recursions == 0) {
      c.recursions = 0;
      c.block_stride = 0;
      c.runs_all.clear();
    }
    return c;
  }
  /// Blocks for the largest request alone, which has 34 tokens.
  static int32_t just_enough() {
    const int32_t lists = GetParam().policy == KeyPolicy::shared ? 1 : GetParam().recursions;
    return small_config(GetParam().source, GetParam().policy, 0).scratch_blocks + (GetParam().outside ? 6 : 0) +
           9 * lists;
  }
};

TEST_P(SchedulerCase, RandomTrafficInATightAndInARoomyCache) {
  int64_t preemptions = 0, hits = 0;
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const bool tight = seed % 2 == 0;
    Simulation simulation(config(tight ? just_enough() : 400), seed);
    std::mt19937 random(seed);
    std::map<uint64_t, Request> requests;
    std::set<uint64_t> aborted;
    const uint64_t count = 60;
    int64_t steps = 0;
    while (requests.size() < count || simulation.scheduler.unfinished()) {
      ASSERT_LT(++steps, 20000) << "somebody starves";
      while (requests.size() < count && random() % 3 == 0) {
        Request r = random_request(requests.size(), random, config(1).recursions);
        if (tight) r.priority = static_cast<int32_t>(random() % 3);
        simulation.scheduler.submit(r);
        requests.emplace(r.id, r);
      }
      std::set<uint64_t> ending;
      if (!requests.empty() && random() % 10 == 0) {
        const uint64_t id = random() % requests.size();
        if (simulation.events[id].empty() || simulation.events[id].back().kind == EngineEvent::Kind::token)
          ending.insert(id);
        aborted.insert(id);
        simulation.scheduler.abort(id);
      }
      simulation.step();
      for (const uint64_t id : ending) {
        ASSERT_FALSE(simulation.events[id].empty()) << "an abort takes effect in the next step";
        EXPECT_EQ(simulation.events[id].back().kind, EngineEvent::Kind::finish);
        EXPECT_EQ(simulation.events[id].back().reason, FinishReason::abort);
      }
      if (HasFailure()) return;
    }
    for (const auto& [id, request] : requests) simulation.check(request, aborted.count(id) > 0);
    const SchedulerStats stats = simulation.scheduler.stats();
    EXPECT_EQ(stats.blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
    EXPECT_EQ(stats.finished, static_cast<int64_t>(count));
    hits += stats.prefix_hit_tokens;
    simulation.scheduler.forget_prefixes();
    EXPECT_EQ(simulation.scheduler.stats().blocks_cached, 0) << "a block is kept by nobody that can be forgotten";
    if (tight) preemptions += stats.preemptions;
    if (!tight) {
      EXPECT_EQ(stats.preemptions, 0);
    }
  }
  EXPECT_GT(preemptions, 0) << "the tight cache was not tight";
  EXPECT_GT(hits, 0) << "nobody began like another";
}

/// With room for all, requests come in and go on in order, and no row waits longer than the block takes to empty.
TEST_P(SchedulerCase, NobodyWaitsForLong) {
  const SchedulerConfig c = config(800);
  Simulation simulation(c, 5);
  std::mt19937 random(5);
  for (uint64_t id = 0; id < 40; ++id) simulation.scheduler.submit(random_request(id, random, c.recursions));
  std::map<uint64_t, int64_t> last_heard;
  std::vector<uint64_t> first_tokens;
  // A token in flight is passed over for at most max_sequences / max_batch_size passes at each of N depths, prompts go
  // through in chunks, and the boundary stages run at the latest when the block is empty.
  const int64_t prompt = 3 * 2, passes = std::max(1, c.recursions) * c.max_sequences / c.max_batch_size + 1;
  for (int64_t step = 0; simulation.scheduler.unfinished(); ++step) {
    ASSERT_LT(step, 20000);
    std::map<uint64_t, size_t> before;
    for (const auto& [id, events] : simulation.events) before[id] = events.size();
    simulation.step();
    for (const auto& [id, events] : simulation.events) {
      if (events.size() == before[id]) {
        if (events.back().kind == EngineEvent::Kind::token) {
          EXPECT_LE(step - last_heard[id], passes + prompt);
        }
        continue;
      }
      if (before[id] == 0) first_tokens.push_back(id);
      last_heard[id] = step;
    }
  }
  // First tokens come in about the order of arrival: nobody is overtaken by more than those admitted beside him.
  for (size_t i = 0; i < first_tokens.size(); ++i)
    EXPECT_LT(std::abs(static_cast<int64_t>(first_tokens[i]) - static_cast<int64_t>(i)), c.max_sequences);
}

/// Who was thrown out comes in again before those that came later: nobody ends while more than the others that were
/// admitted with him are still under way from before.
TEST_P(SchedulerCase, PreemptionKeepsTheOrderOfArrival) {
  const SchedulerConfig c = config(just_enough());
  Simulation simulation(c, 6);
  std::mt19937 random(6);
  for (uint64_t id = 0; id < 80; ++id) simulation.scheduler.submit(random_request(id, random, c.recursions));
  std::set<uint64_t> ended;
  for (int64_t step = 0; simulation.scheduler.unfinished(); ++step) {
    ASSERT_LT(step, 20000);
    simulation.step();
    for (const auto& [id, events] : simulation.events)
      if (events.back().kind == EngineEvent::Kind::finish && ended.insert(id).second) {
        const auto before = std::distance(ended.begin(), ended.find(id));
        EXPECT_LT(static_cast<int64_t>(id) - before, c.max_sequences) << "request " << id;
      }
  }
  EXPECT_GT(simulation.scheduler.stats().preemptions, 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, SchedulerCase,
    testing::Values(
        Case{"vanilla", DepthSource::everyone_runs_all, KeyPolicy::recursion_wise, true, true, 0},
        Case{"recursive", DepthSource::everyone_runs_all, KeyPolicy::recursion_wise, true, true, 3},
        Case{"recursive_shared", DepthSource::everyone_runs_all, KeyPolicy::shared, true, false, 3},
        Case{"expert", DepthSource::score_per_recursion, KeyPolicy::recursion_wise, true, true, 3},
        Case{"expert_shared", DepthSource::score_per_recursion, KeyPolicy::shared, true, true, 3},
        Case{"expert_hybrid", DepthSource::score_per_recursion, KeyPolicy::hybrid, true, false, 3},
        Case{"expert_first_partial", DepthSource::score_per_recursion, KeyPolicy::recursion_wise, false, false, 3},
        Case{"expert_first_partial_shared", DepthSource::score_per_recursion, KeyPolicy::shared, false, true, 3},
        Case{"expert_first_partial_hybrid", DepthSource::score_per_recursion, KeyPolicy::hybrid, false, true, 3},
        Case{"token", DepthSource::chosen_at_entry, KeyPolicy::recursion_wise, true, true, 3},
        Case{"token_shared", DepthSource::chosen_at_entry, KeyPolicy::shared, true, false, 3}),
    [](const auto& info) { return info.param.name; });

TEST(Scheduler, RefusesWhatCouldNeverRun) {
  Simulation simulation(small_config(DepthSource::score_per_recursion, KeyPolicy::recursion_wise, 20), 1);
  Request r;
  r.id = 1;
  r.prompt.assign(20, 1);
  r.max_tokens = 15;
  r.max_recursions = 3;
  try {
    simulation.scheduler.submit(r);
    FAIL() << "33 tokens need 6 + 3 * 9 blocks, and there are 20";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::OUT_OF_MEMORY);
    EXPECT_NE(std::string(error.what()).find("33 KV blocks"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("has 20"), std::string::npos) << error.what();
  }
  r.max_recursions = 1;
  simulation.scheduler.submit(r);
  EXPECT_THROW(simulation.scheduler.submit(r), Error) << "the id is taken";
  while (simulation.scheduler.unfinished()) simulation.step();
  simulation.check(r, false);
}

/// Requests of high priority that come into a full engine are served as if they were alone, and what they cost the
/// others is time only.
TEST_P(SchedulerCase, HighPriorityIsServedAsIfAlone) {
  for (const bool tight : {true, false}) {
    SCOPED_TRACE(tight ? "tight" : "roomy");
    const SchedulerConfig c = config(tight ? just_enough() : 400);
    std::mt19937 random(7);
    std::vector<Request> low, high;
    for (uint64_t id = 0; id < 30; ++id) {
      low.push_back(random_request(id, random, c.recursions));
      low.back().prompt.resize(3);
      low.back().max_tokens = 15;
    }
    for (uint64_t id = 30; id < 33; ++id) {
      high.push_back(random_request(id, random, c.recursions));
      high.back().priority = 1;
    }
    const auto steps_until_high_is_done = [&](Simulation& simulation) {
      for (const Request& r : high) simulation.scheduler.submit(r);
      for (int64_t step = 1;; ++step) {
        simulation.step();
        size_t ended = 0;
        for (const Request& r : high) {
          const std::vector<EngineEvent>& events = simulation.events[r.id];
          ended += !events.empty() && events.back().kind == EngineEvent::Kind::finish;
        }
        if (ended == high.size() || step > 10000) return step;
      }
    };
    Simulation alone(c, 7), crowded(c, 7);
    const int64_t wanted = steps_until_high_is_done(alone);
    for (const Request& r : low) crowded.scheduler.submit(r);
    for (int i = 0; i < 12; ++i) crowded.step();
    const int64_t before = crowded.scheduler.stats().preemptions;
    // The block takes rows in turn, whoever they are, and a prompt of a low one may be in flight still.
    EXPECT_LE(steps_until_high_is_done(crowded), 2 * wanted + 8);
    EXPECT_GT(crowded.scheduler.stats().preemptions, before) << "somebody had to go for them";
    while (crowded.scheduler.unfinished()) crowded.step();
    for (const Request& r : low) crowded.check(r, false);
    for (const Request& r : high) crowded.check(r, false);
  }
}

/// A sequence alone takes (N + 1) / 2N of the vanilla memory of the block's layers where depths are spread evenly, and
/// at most a block more at every recursion (mor.md section 5).
/// Who displaces the only one that holds the beginning they share gains the room of what was its own, and no more.
TEST_P(SchedulerCase, HighPriorityTakesOverWhatTheDisplacedHeld) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    std::mt19937 random(seed);
    const SchedulerConfig c = config(just_enough() + static_cast<int32_t>(random() % 12));
    Simulation simulation(c, seed);
    std::vector<Request> requests;
    const auto submit = [&](Request r, int32_t priority) {
      r.id = requests.size();
      r.priority = priority;
      simulation.scheduler.submit(r);
      requests.push_back(std::move(r));
    };
    submit(random_request(0, random, c.recursions), 1);
    std::vector<Request> families;
    for (int32_t i = 0; i < 3; ++i) {
      Request r = random_request(0, random, c.recursions);
      for (int32_t& token : r.prompt) token = static_cast<int32_t>(random() % 1000);
      families.push_back(r);
      submit(r, 0);
    }
    const int64_t pause = 1 + random() % 12;
    for (int64_t i = 0; i < pause; ++i) simulation.step();
    for (Request& r : families) {
      r.prompt.push_back(static_cast<int32_t>(random() % 1000));
      submit(r, 1);
      simulation.step();
    }
    int64_t steps = 0;
    while (simulation.scheduler.unfinished()) {
      simulation.step();
      ASSERT_LT(++steps, 5000) << "somebody starves";
    }
    for (const Request& r : requests) simulation.check(r, false);
    if (HasFailure()) return;
  }
}

TEST(Scheduler, KeysTakeTheShareOfTheDepths) {
  for (const int32_t recursions : {2, 3, 4}) {
    SchedulerConfig c = small_config(DepthSource::chosen_at_entry, KeyPolicy::recursion_wise, 4000);
    c.recursions = recursions;
    c.runs_all.assign(static_cast<size_t>(recursions), true);
    c.prefill_chunk = 64;
    Scheduler scheduler(c);
    Request r;
    r.prompt.assign(12 * 40, 1);
    r.max_tokens = 12 * 10;
    r.max_recursions = recursions;
    scheduler.submit(r);
    StageOutcome outcome;
    std::vector<EngineEvent> events;
    int64_t looked = 0;
    while (scheduler.unfinished()) {
      if (const StagePlan* plan = scheduler.plan_entry()) {
        outcome.gate.assign(plan->slot.size(), 1);
        outcome.depth.clear();
        for (const int32_t position : plan->position) outcome.depth.push_back(1 + position % recursions);
        scheduler.commit_entry(outcome);
      }
      if (scheduler.plan_block() != nullptr) scheduler.commit_block(outcome);
      const StagePlan* const plan = scheduler.plan_exit();
      if (plan == nullptr) continue;  // tokens are in flight, with blocks for every depth
      outcome.token.assign(plan->sampled.size(), 1);
      outcome.logprob.assign(plan->sampled.size(), 0);
      scheduler.commit_exit(outcome, events);
      const SchedulerStats stats = scheduler.stats();
      if (stats.running == 0 || stats.running_tokens % recursions != 0) continue;
      const double tokens = static_cast<double>(stats.running_tokens), n = recursions;
      const double outside = std::ceil(tokens / c.outside_block_size);
      const double vanilla = n * tokens / c.block_size;
      EXPECT_LE(static_cast<double>(stats.blocks_used) - outside, (n + 1) / (2 * n) * vanilla + n);
      ++looked;
    }
    EXPECT_GT(looked, 20);
  }
}

/// Decoding at a steady load with depths uniform in 1 .. N: what passes would cost, and what the scheduler costs.
struct SteadyLoad {
  double share_of_ideal = 0;     ///< cost of a token in full batches of both kinds, against its cost here
  double passes_a_boundary = 0;  ///< of the block
  double microseconds = 0;       ///< of the scheduler alone, a step: the median, since others may be running
};

SteadyLoad decode_at_steady_load(int32_t recursions, double block_cost, double boundary_cost, int32_t batch,
                                 int32_t requests, bool prefix_cache = true) {
  SchedulerConfig c;
  c.prefix_cache = prefix_cache;
  c.recursions = recursions;
  c.depth_source = DepthSource::chosen_at_entry;
  c.runs_all.assign(static_cast<size_t>(recursions), true);
  c.blocks = 200000;
  c.block_size = c.outside_block_size = 16;
  c.block_stride = c.outside_block_stride = 4;
  c.max_batch_size = batch;
  c.max_sequences = 2 * batch;
  c.prefill_chunk = 1 << 20;
  c.block_cost = block_cost;
  c.boundary_cost = boundary_cost;
  Scheduler scheduler(c);
  const GhostDevice hash(c, 3);
  for (int32_t id = 0; id < requests; ++id) {
    Request r;
    r.id = static_cast<uint64_t>(id);
    r.seed = r.id;
    r.prompt.assign(1000, id);
    r.max_tokens = 1000;
    r.max_recursions = recursions;
    scheduler.submit(std::move(r));
  }
  double cost = 0, tokens = 0, depths = 0, passes = 0, boundaries = 0;
  using Clock = std::chrono::steady_clock;
  Clock::duration spent{};
  std::vector<double> microseconds;
  const auto timed = [&](const auto& call) {
    const Clock::time_point begin = Clock::now();
    const auto result = call();
    spent += Clock::now() - begin;
    return result;
  };
  StageOutcome outcome;
  std::vector<EngineEvent> events;
  constexpr int kStart = 100, kSteps = 500;
  for (int step = 0; step < kStart + kSteps; ++step) {
    const double counts = step >= kStart ? 1 : 0;
    spent = {};
    events.clear();
    scheduler.begin_step(events);
    if (const StagePlan* plan = timed([&] { return scheduler.plan_entry(); })) {
      outcome.gate.assign(plan->slot.size(), 1);
      outcome.depth.clear();
      for (size_t g = 0; g < plan->groups.size(); ++g)
        for (int32_t i = plan->start[g]; i < plan->start[g + 1]; ++i) {
          const double u = hash.random(plan->groups[g]->request, plan->position[static_cast<size_t>(i)], 1);
          outcome.depth.push_back(1 + static_cast<int32_t>(u * recursions));
        }
      timed([&] { return scheduler.commit_entry(outcome), 0; });
    }
    if (timed([&] { return scheduler.plan_block(); }) != nullptr) {
      cost += counts * block_cost;
      passes += counts;
      timed([&] { return scheduler.commit_block(outcome), 0; });
    }
    if (const StagePlan* plan = timed([&] { return scheduler.plan_exit(); })) {
      const double rows = static_cast<double>(plan->sampled.size());
      cost += counts * boundary_cost * std::max(1.0, rows / batch);
      boundaries += counts;
      tokens += counts * rows;
      for (const Sequence* s : plan->sampled) depths += counts * s->rows.back().depth;
      outcome.token.assign(plan->sampled.size(), 1);
      outcome.logprob.assign(plan->sampled.size(), 0);
      timed([&] { return scheduler.commit_exit(outcome, events), 0; });
    }
    if (step >= kStart) microseconds.push_back(std::chrono::duration<double, std::micro>(spent).count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  const double ideal = (boundary_cost + depths / tokens * block_cost) / batch;
  return {ideal / (cost / tokens), passes / boundaries, microseconds[kSteps / 2]};
}

/// Shapes of mor.md section 1: layers of the block, and the head in units of a layer.
TEST(Scheduler, KeepsTheDepthSavingInABatchOfEqualSize) {
  struct Shape {
    int32_t recursions;
    double block, head;
  };
  for (const Shape shape : {Shape{2, 15, 4.8}, Shape{3, 10, 4.8}, Shape{4, 8, 4.8}}) {
    for (const int32_t requests : {64, 512}) {
      const SteadyLoad load = decode_at_steady_load(shape.recursions, shape.block, 2 + shape.head, 64, requests);
      std::printf("N = %d, %3d requests: %.1f%% of ideal, %.1f passes a boundary\n", shape.recursions, requests,
                  100 * load.share_of_ideal, load.passes_a_boundary);
      // With no request waiting, a queue at the boundary costs rows of the block.
      EXPECT_GT(load.share_of_ideal, requests > 64 ? 0.95 : 0.75);
    }
  }
}

/// The bound is loose, for machines that do other things too; the figure is printed.
TEST(Scheduler, PlansAStepOf256SequencesInMicroseconds) {
  for (const bool prefix_cache : {false, true}) {
    const SteadyLoad load = decode_at_steady_load(3, 10, 6.8, 256, 256, prefix_cache);
    std::printf("%.1f us a step with 256 sequences of 1000 to 2000 tokens, prefix cache %s\n", load.microseconds,
                prefix_cache ? "on" : "off");
    EXPECT_LT(load.microseconds, 1000);
  }
}

}  // namespace
}  // namespace mor::test
