// Tests of Scheduler::prepare: it does what does not depend on the outcome of the stage under way, and nothing else.
#include "test/engine/scheduler_simulation.h"

namespace mor::test {
namespace {

/// Plans are the same with and without `prepare`.
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
        Request r = random_request(submitted, random, c.rules.passes());
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

/// While a stage is under way, the tokens that leave are counted, and sequences that wait for the next pass get the
/// slots of their keys.
TEST(Scheduler, PreparesWhatDoesNotDependOnTheOutcome) {
  SchedulerConfig c = small_config(RouterType::expert_choice, KvCachePolicy::recursion_wise, 400);
  c.max_batch_size = 1;
  c.max_sequences = 2;
  Scheduler scheduler(c);
  GhostDevice device(c, 1);
  std::vector<RequestEvent> events;
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
      scheduler.commit_rows(device.run_entry(*plan));
    }
    if (const StagePlan* plan = scheduler.plan_block()) {
      const StageOutcome outcome = device.run_block(*plan);
      std::set<const Sequence*> left = all;
      for (const Sequence* s : plan->groups) left.erase(s);
      std::erase_if(left, [](const Sequence* s) { return s->phase != Phase::block || s->has_cache_slots; });
      scheduler.prepare();
      for (const Sequence* s : left) {
        EXPECT_TRUE(s->has_cache_slots);
        ++placed;
      }
      scheduler.commit_rows(outcome);
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

INSTANTIATE_TEST_SUITE_P(All, SchedulerCase, testing::ValuesIn(scheduler_cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
