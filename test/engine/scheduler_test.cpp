// Tests of the scheduler without a device, with random depths, arrivals and aborts: no block is lost, every row sees
// its own keys, depth only rises, no request starves, and what a request gets does not depend on other requests.
#include <cmath>

#include "test/engine/scheduler_simulation.h"

namespace mor::test {
namespace {

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
      ASSERT_LT(++steps, 20000) << "a request starves";
      while (requests.size() < count && random() % 3 == 0) {
        Request r = random_request(requests.size(), random, config(1).rules.passes());
        if (tight) r.priority = static_cast<int32_t>(random() % 3);
        simulation.scheduler.submit(r);
        requests.emplace(r.id, r);
      }
      std::set<uint64_t> ending;
      if (!requests.empty() && random() % 10 == 0) {
        const uint64_t id = random() % requests.size();
        if (simulation.events[id].empty() || simulation.events[id].back().kind == RequestEvent::Kind::token)
          ending.insert(id);
        aborted.insert(id);
        simulation.scheduler.abort(id);
      }
      simulation.step();
      for (const uint64_t id : ending) {
        ASSERT_FALSE(simulation.events[id].empty()) << "an abort takes effect in the next step";
        EXPECT_EQ(simulation.events[id].back().kind, RequestEvent::Kind::finish);
        EXPECT_EQ(simulation.events[id].back().reason, FinishReason::abort);
      }
      if (HasFailure()) return;
    }
    for (const auto& [id, request] : requests) simulation.check(request, aborted.count(id) > 0);
    const SchedulerStats stats = simulation.scheduler.stats();
    EXPECT_EQ(stats.kv_blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
    EXPECT_EQ(stats.finished, static_cast<int64_t>(count));
    hits += stats.prefix_hit_tokens;
    simulation.scheduler.forget_prefixes();
    EXPECT_EQ(simulation.scheduler.stats().kv_blocks_cached, 0) << "a block has a keeper, but no prefix names it";
    if (tight) preemptions += stats.preemptions;
    if (!tight) {
      EXPECT_EQ(stats.preemptions, 0);
    }
  }
  EXPECT_GT(preemptions, 0) << "the tight cache was not tight";
  EXPECT_GT(hits, 0) << "no requests had a common beginning";
}

/// With room for all, requests are admitted in order, and no row waits longer than the block takes to empty.
TEST_P(SchedulerCase, NoRequestWaitsForLong) {
  const SchedulerConfig c = config(800);
  Simulation simulation(c, 5);
  std::mt19937 random(5);
  for (uint64_t id = 0; id < 40; ++id) simulation.scheduler.submit(random_request(id, random, c.rules.passes()));
  std::map<uint64_t, int64_t> last_heard;
  std::vector<uint64_t> first_tokens;
  // A token in flight is passed over for at most max_sequences / max_batch_size passes at each of N depths, prompts go
  // through in chunks, and the boundary stages run at the latest when the block is empty.
  const int64_t prompt = 3 * 2, passes = std::max(1, c.rules.passes()) * c.max_sequences / c.max_batch_size + 1;
  for (int64_t step = 0; simulation.scheduler.unfinished(); ++step) {
    ASSERT_LT(step, 20000);
    std::map<uint64_t, size_t> before;
    for (const auto& [id, events] : simulation.events) before[id] = events.size();
    simulation.step();
    for (const auto& [id, events] : simulation.events) {
      if (events.size() == before[id]) {
        if (events.back().kind == RequestEvent::Kind::token) {
          EXPECT_LE(step - last_heard[id], passes + prompt);
        }
        continue;
      }
      if (before[id] == 0) first_tokens.push_back(id);
      last_heard[id] = step;
    }
  }
  // First tokens come in about the order of arrival: only requests admitted at the same time overtake each other.
  for (size_t i = 0; i < first_tokens.size(); ++i)
    EXPECT_LT(std::abs(static_cast<int64_t>(first_tokens[i]) - static_cast<int64_t>(i)), c.max_sequences);
}

/// An admitted sequence has room for a block's worth of tokens beside the others. Where all depths are known, preempted
/// sequences have therefore generated at least that many on average; not each of them, since others go on while its
/// prompt enters.
TEST(Scheduler, AnAdmittedSequenceIsNotPreemptedSoon) {
  int64_t preemptions = 0, progress = 0, block_size = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const SchedulerConfig c = small_config(RouterType::none, KvCachePolicy::recursion_wise, 40);
    block_size = c.block_size;
    Simulation simulation(c, seed);
    std::mt19937 random(seed);
    for (uint64_t id = 0; id < 40; ++id) {
      Request r = random_request(id, random, c.rules.passes());
      r.max_recursions = c.rules.passes();
      simulation.scheduler.submit(r);
    }
    std::map<const Sequence*, int32_t> admitted;  // and what it had generated by then
    std::vector<Recorded> plans;
    simulation.record = &plans;
    while (simulation.scheduler.unfinished()) {
      plans.clear();
      std::map<uint64_t, const Sequence*> known;
      for (const auto& [s, generated] : admitted) known[s->request.id] = s;
      simulation.step();
      for (const auto& [id, s] : known)
        if (simulation.events[id].size() > 0 && simulation.events[id].back().kind == RequestEvent::Kind::finish)
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
          const std::vector<RequestEvent>& events = simulation.events[plan.requests[g]];
          if (!events.empty() && events.back().kind == RequestEvent::Kind::finish) continue;
          const Sequence* s = plan.plan.groups[g];
          if (s->phase != Phase::waiting) admitted.emplace(s, s->generated());
        }
    }
  }
  ASSERT_GT(preemptions, 20);
  EXPECT_GE(progress, preemptions * block_size) << "tokens generated between admission and preemption";
}

/// A preempted sequence is admitted again before those that arrived later: when a sequence ends, of those that arrived
/// before it only such are under way as were admitted together with it.
TEST_P(SchedulerCase, PreemptionKeepsTheOrderOfArrival) {
  const SchedulerConfig c = config(just_enough());
  int64_t preemptions = 0;
  for (uint32_t seed = 6; seed < 9; ++seed) {
    Simulation simulation(c, seed);
    std::mt19937 random(seed);
    for (uint64_t id = 0; id < 80; ++id) simulation.scheduler.submit(random_request(id, random, c.rules.passes()));
    std::set<uint64_t> ended;
    for (int64_t step = 0; simulation.scheduler.unfinished(); ++step) {
      ASSERT_LT(step, 20000);
      simulation.step();
      for (const auto& [id, events] : simulation.events)
        if (events.back().kind == RequestEvent::Kind::finish && ended.insert(id).second) {
          const auto before = std::distance(ended.begin(), ended.find(id));
          EXPECT_LT(static_cast<int64_t>(id) - before, c.max_sequences) << "request " << id;
        }
    }
    preemptions += simulation.scheduler.stats().preemptions;
  }
  EXPECT_GT(preemptions, 0);
}

INSTANTIATE_TEST_SUITE_P(All, SchedulerCase, testing::ValuesIn(scheduler_cases()),
                         [](const auto& info) { return info.param.name; });

TEST(Scheduler, RefusesWhatCouldNeverRun) {
  Simulation simulation(small_config(RouterType::expert_choice, KvCachePolicy::recursion_wise, 20), 1);
  Request r;
  r.id = 1;
  r.prompt.assign(20, 1);
  r.max_tokens = 15;
  r.max_recursions = 3;
  try {
    simulation.scheduler.submit(r);
    FAIL() << "33 tokens need 6 + 3 * 9 blocks, and there are 20";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::CONTEXT_OVERFLOW);
    EXPECT_NE(std::string(error.what()).find("33 KV blocks"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("has 20"), std::string::npos) << error.what();
  }
  r.max_recursions = 1;
  simulation.scheduler.submit(r);
  EXPECT_THROW(simulation.scheduler.submit(r), Error) << "the id is taken";
  while (simulation.scheduler.unfinished()) simulation.step();
  simulation.check(r, false);
}

/// If depths are spread evenly, a sequence takes (N + 1) / 2N of the vanilla memory of the block's layers, and at most
/// one block more at every recursion (docs/model.md section 5).
TEST(Scheduler, KeysTakeTheShareOfTheDepths) {
  for (const int32_t recursions : {2, 3, 4}) {
    SchedulerConfig c = small_config(RouterType::token_choice, KvCachePolicy::recursion_wise, 4000);
    c.rules.num_recursions = recursions;
    c.rules.block_recurs = true;
    c.rules.runs_all.assign(static_cast<size_t>(recursions), true);
    c.prefill_chunk = 64;
    Scheduler scheduler(c);
    Request r;
    r.prompt.assign(12 * 40, 1);
    r.max_tokens = 12 * 10;
    r.max_recursions = recursions;
    scheduler.submit(r);
    StageOutcome outcome;
    std::vector<RequestEvent> events;
    int64_t looked = 0;
    while (scheduler.unfinished()) {
      if (const StagePlan* plan = scheduler.plan_entry()) {
        outcome.gate.assign(plan->slot.size(), 1);
        outcome.depth.clear();
        for (const int32_t position : plan->position) outcome.depth.push_back(1 + position % recursions);
        scheduler.commit_rows(outcome);
      }
      if (scheduler.plan_block() != nullptr) scheduler.commit_rows(outcome);
      const StagePlan* const plan = scheduler.plan_exit();
      if (plan == nullptr) continue;  // tokens are in flight and hold blocks for every depth
      outcome.token.assign(plan->sampled.size(), 1);
      outcome.logprob.assign(plan->sampled.size(), 0);
      scheduler.commit_exit(outcome, events);
      const SchedulerStats stats = scheduler.stats();
      if (stats.running == 0 || stats.running_tokens % recursions != 0) continue;
      const double tokens = static_cast<double>(stats.running_tokens), n = recursions;
      const double outside = std::ceil(tokens / c.outside_block_size);
      const double vanilla = n * tokens / c.block_size;
      EXPECT_LE(static_cast<double>(stats.kv_blocks_used) - outside, (n + 1) / (2 * n) * vanilla + n);
      ++looked;
    }
    EXPECT_GT(looked, 20);
  }
}

}  // namespace
}  // namespace mor::test
