// The scheduler simulated with no device: random depths, arrivals and aborts. Blocks are conserved, every row sees its
// own keys, depth only rises, nobody starves, and what a request gets does not depend on who else is there. Must not
// know of models.
#include "engine/scheduler.h"

#include <cmath>
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

/// A plan, and what it points to.
struct Recorded {
  StagePlan plan;
  std::vector<uint64_t> requests;
  std::vector<int32_t> tables;

  explicit Recorded(const StagePlan& p) : plan(p) {
    for (const Sequence* s : p.groups) requests.push_back(s->request.id);
    for (size_t g = 0; g < p.table.size(); ++g)
      tables.insert(tables.end(), p.table[g], p.table[g] + p.blocks_of_group(g));
  }
};

/// One simulated engine.
struct Simulation {
  Scheduler scheduler;
  GhostDevice device;
  std::map<uint64_t, std::vector<EngineEvent>> events;
  bool prepares;                            ///< while the device works
  std::vector<Recorded>* record = nullptr;  ///< of every plan

  Simulation(const SchedulerConfig& config, uint64_t seed, bool prepare = true)
      : scheduler(config), device(config, seed), prepares(prepare) {}

  void step() {
    std::vector<EngineEvent> found;
    scheduler.begin_step(found);
    const auto run = [&](const StagePlan* plan, StageOutcome (GhostDevice::*stage)(const StagePlan&),
                         const auto& commit) {
      if (plan == nullptr) return;
      if (record != nullptr) record->emplace_back(*plan);
      const StageOutcome outcome = (device.*stage)(*plan);
      if (prepares) scheduler.prepare();
      commit(outcome);
    };
    run(scheduler.plan_entry(), &GhostDevice::run_entry, [&](const auto& outcome) { scheduler.commit_entry(outcome); });
    run(scheduler.plan_block(), &GhostDevice::run_block, [&](const auto& outcome) { scheduler.commit_block(outcome); });
    run(scheduler.plan_exit(), &GhostDevice::run_exit,
        [&](const auto& outcome) { scheduler.commit_exit(outcome, found); });
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

/// What is prepared while the device works is what would have been planned without.
TEST_P(SchedulerCase, PreparingChangesNoPlan) {
  for (const bool tight : {true, false}) {
    SCOPED_TRACE(tight ? "tight" : "roomy");
    const SchedulerConfig c = config(tight ? just_enough() : 400);
    Simulation prepared(c, 9, true), plain(c, 9, false);
    std::vector<Recorded> plans, plain_plans;
    prepared.record = &plans;
    plain.record = &plain_plans;
    std::mt19937 random(9);
    uint64_t submitted = 0;
    size_t compared = 0;
    while (submitted < 60 || plain.scheduler.unfinished()) {
      for (; submitted < 60 && random() % 3 == 0; ++submitted) {
        Request r = random_request(submitted, random, c.recursions);
        r.priority = static_cast<int32_t>(random() % 2);
        prepared.scheduler.submit(r);
        plain.scheduler.submit(r);
      }
      if (submitted > 0 && random() % 10 == 0) {
        const uint64_t id = random() % submitted;
        prepared.scheduler.abort(id);
        plain.scheduler.abort(id);
      }
      plans.clear();
      plain_plans.clear();
      prepared.step();
      plain.step();
      ASSERT_EQ(plans.size(), plain_plans.size());
      for (size_t i = 0; i < plans.size(); ++i, ++compared) {
        const StagePlan &a = plans[i].plan, &b = plain_plans[i].plan;
        EXPECT_EQ(plans[i].requests, plain_plans[i].requests);
        EXPECT_EQ(plans[i].tables, plain_plans[i].tables);
        EXPECT_EQ(a.start, b.start);
        EXPECT_EQ(a.slot, b.slot);
        EXPECT_EQ(a.position, b.position);
        EXPECT_EQ(a.visible, b.visible);
        EXPECT_EQ(a.cache_slot, b.cache_slot);
        EXPECT_EQ(a.copies, b.copies);
        EXPECT_EQ(a.token, b.token);
        EXPECT_EQ(a.recursion_start, b.recursion_start);
        EXPECT_EQ(a.exits, b.exits);
        EXPECT_EQ(a.last, b.last);
      }
      if (HasFailure()) return;
    }
    EXPECT_GT(compared, 100u);
  }
}

/// While a stage is under way, sequences that leave are settled, and those that wait for the next pass find their
/// places.
TEST(Scheduler, PreparesWhatDoesNotDependOnTheOutcome) {
  SchedulerConfig c = small_config(DepthSource::score_per_recursion, KeyPolicy::recursion_wise, 400);
  c.max_batch_size = 1;
  c.max_sequences = 2;
  Scheduler scheduler(c);
  GhostDevice device(c, 1);
  std::vector<EngineEvent> events;
  for (uint64_t id = 0; id < 2; ++id) {
    Request r;
    r.id = id;
    r.prompt = {1, static_cast<int32_t>(id)};
    r.max_tokens = 50;
    r.max_recursions = 1;
    scheduler.submit(r);
  }
  std::set<const Sequence*> all;
  int placed = 0, settled = 0;
  for (int step = 0; step < 40; ++step) {
    if (const StagePlan* plan = scheduler.plan_entry()) {
      all.insert(plan->groups.begin(), plan->groups.end());
      scheduler.commit_entry(device.run_entry(*plan));
    }
    if (const StagePlan* plan = scheduler.plan_block()) {
      const StageOutcome outcome = device.run_block(*plan);
      std::set<const Sequence*> left = all;
      for (const Sequence* s : plan->groups) left.erase(s);
      std::erase_if(left, [](const Sequence* s) { return s->phase != Phase::block || s->placed; });
      scheduler.prepare();
      for (const Sequence* s : left) {
        EXPECT_TRUE(s->placed);
        ++placed;
      }
      scheduler.commit_block(outcome);
    }
    if (const StagePlan* plan = scheduler.plan_exit()) {
      const StageOutcome outcome = device.run_exit(*plan);
      const int64_t before = scheduler.stats().tokens_run, rows = plan->rows();
      scheduler.prepare();
      EXPECT_EQ(scheduler.stats().tokens_run, before + rows);
      for (const Sequence* s : plan->groups) EXPECT_TRUE(s->rows.empty());
      scheduler.commit_exit(outcome, events);
      EXPECT_EQ(scheduler.stats().tokens_run, before + rows);
      ++settled;
    }
  }
  EXPECT_GT(placed, 5);
  EXPECT_GT(settled, 5);
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

/// Who comes in has room for a block's worth of tokens beside the others: where depths are certain, so that all needs
/// are known, those that are thrown out have generated so many on average. (Not each of them: others go on while a
/// prompt enters.)
TEST(Scheduler, WhoIsAdmittedIsNotThrownOutSoon) {
  int64_t preemptions = 0, progress = 0, block_size = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const SchedulerConfig c = small_config(DepthSource::everyone_runs_all, KeyPolicy::recursion_wise, 40);
    block_size = c.block_size;
    Simulation simulation(c, seed);
    std::mt19937 random(seed);
    for (uint64_t id = 0; id < 40; ++id) {
      Request r = random_request(id, random, c.recursions);
      r.max_recursions = c.recursions;
      simulation.scheduler.submit(r);
    }
    std::map<const Sequence*, int32_t> admitted;  // and what they had generated by then
    std::vector<Recorded> plans;
    simulation.record = &plans;
    while (simulation.scheduler.unfinished()) {
      plans.clear();
      std::map<uint64_t, const Sequence*> known;
      for (const auto& [s, generated] : admitted) known[s->request.id] = s;
      simulation.step();
      for (const auto& [id, s] : known)
        if (simulation.events[id].size() > 0 && simulation.events[id].back().kind == EngineEvent::Kind::finish)
          admitted.erase(s);
      for (auto next = admitted.begin(); next != admitted.end();) {
        const auto [s, generated] = *next++;
        if (s->phase != Phase::waiting) continue;
        progress += s->generated() - generated;
        admitted.erase(s);
        ++preemptions;
      }
      for (const Recorded& plan : plans)
        for (size_t g = 0; g < plan.requests.size(); ++g) {
          const std::vector<EngineEvent>& events = simulation.events[plan.requests[g]];
          if (!events.empty() && events.back().kind == EngineEvent::Kind::finish) continue;
          const Sequence* s = plan.plan.groups[g];
          if (s->phase != Phase::waiting) admitted.emplace(s, s->generated());
        }
    }
  }
  ASSERT_GT(preemptions, 20);
  EXPECT_GE(progress, preemptions * block_size) << "tokens generated between admission and the end of it";
}

/// Who was thrown out comes in again before those that came later: nobody ends while more than the others that were
/// admitted with him are still under way from before.
TEST_P(SchedulerCase, PreemptionKeepsTheOrderOfArrival) {
  const SchedulerConfig c = config(just_enough());
  int64_t preemptions = 0;
  for (uint32_t seed = 6; seed < 9; ++seed) {
    Simulation simulation(c, seed);
    std::mt19937 random(seed);
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
    preemptions += simulation.scheduler.stats().preemptions;
  }
  EXPECT_GT(preemptions, 0);
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

}  // namespace
}  // namespace mor::test
