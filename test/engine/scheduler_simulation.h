// Simulation: an engine of a scheduler and a GhostDevice; random requests; and the configurations that tests run.
#pragma once

#include <random>

#include "engine/scheduler.h"
#include "test/engine/ghost_device.h"

namespace mor::test {

inline SchedulerConfig small_config(RouterType router, KvCachePolicy policy, int32_t blocks) {
  SchedulerConfig c;
  c.rules.num_recursions = 3;
  c.rules.block_recurs = true;
  c.rules.router = router;
  c.rules.kv_cache = policy;
  c.rules.runs_all = {true, false, false};
  c.blocks = blocks;
  c.block_size = 4;
  c.block_stride = 2 * 3;  // three layers in the block, two outside
  c.outside_block_size = 6;
  c.outside_block_stride = 2 * 2;
  c.max_batch_size = 4;
  c.max_sequences = 8;
  c.prefill_chunk = 7;
  c.scratch_blocks = policy == KvCachePolicy::shared ? 3 : 0;
  return c;
}

/// Many requests have a beginning in common, and some generate the same tokens too.
inline Request random_request(uint64_t id, std::mt19937& random, int32_t recursions) {
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
  if (id % 4 == 3) {
    r.prompt_logprobs = 0;
    if (id % 3 == 1 && r.prompt.size() > 1)
      r.prompt_logprobs_from = 1 + static_cast<int32_t>(random() % (r.prompt.size() - 1));
    if (id % 8 == 7) r.max_tokens = 0;
  }
  return r;
}

/// A plan with the block tables that it points to.
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

struct Simulation {
  Scheduler scheduler;
  GhostDevice device;
  std::map<uint64_t, std::vector<RequestEvent>> events;
  bool prepares;                            ///< whether it calls Scheduler::prepare
  std::vector<Recorded>* record = nullptr;  ///< where every plan is recorded

  Simulation(const SchedulerConfig& config, uint64_t seed, bool prepare = true)
      : scheduler(config), device(config, seed), prepares(prepare) {}

  void step() {
    std::vector<RequestEvent> found;
    scheduler.begin_step(found);
    const auto run = [&](const StagePlan* plan, StageOutcome (GhostDevice::*stage)(const StagePlan&),
                         const auto& commit) {
      if (plan == nullptr) return;
      if (record != nullptr) record->emplace_back(*plan);
      const StageOutcome outcome = (device.*stage)(*plan);
      if (prepares) scheduler.prepare();
      commit(outcome);
    };
    run(scheduler.plan_entry(), &GhostDevice::run_entry, [&](const auto& outcome) { scheduler.commit_rows(outcome); });
    run(scheduler.plan_block(), &GhostDevice::run_block, [&](const auto& outcome) { scheduler.commit_rows(outcome); });
    run(scheduler.plan_exit(), &GhostDevice::run_exit,
        [&](const auto& outcome) { scheduler.commit_exit(outcome, found); });
    for (RequestEvent& event : found) events[event.request].push_back(event);
  }

  /// Checks a request's events, which depend on the request alone.
  void check(const Request& request, bool aborted) {
    SCOPED_TRACE(concat("request ", request.id));
    const std::vector<RequestEvent>& all = events[request.id];
    ASSERT_FALSE(all.empty());
    const int32_t first = request.prompt_logprobs < 0 ? 0 : request.first_scored_row();
    int32_t scored = first;
    for (; all[static_cast<size_t>(scored - first)].kind == RequestEvent::Kind::prompt; ++scored) {
      const RequestEvent& event = all[static_cast<size_t>(scored - first)];
      ASSERT_LT(scored, request.scored_rows());
      EXPECT_EQ(event.token, request.prompt[static_cast<size_t>(scored) + 1]);
      EXPECT_EQ(event.depth, device.depth(request, scored));
      EXPECT_EQ(event.logprob, -2);
    }
    const int32_t tokens = static_cast<int32_t>(all.size()) - 1 - (scored - first);
    if (tokens > 0) {
      EXPECT_EQ(scored, request.scored_rows());
    }
    for (int32_t i = 0; i < tokens; ++i) {
      const RequestEvent& event = all[static_cast<size_t>(scored - first + i)];
      ASSERT_EQ(event.kind, RequestEvent::Kind::token);
      EXPECT_EQ(event.token, device.token(request, i));
      EXPECT_EQ(event.depth, device.depth(request, static_cast<int32_t>(request.prompt.size()) - 1 + i));
    }
    ASSERT_EQ(all.back().kind, RequestEvent::Kind::finish);
    if (all.back().reason == FinishReason::abort) {
      EXPECT_TRUE(aborted);
    } else {
      EXPECT_EQ(all.back().reason, FinishReason::length);
      EXPECT_EQ(tokens, request.max_tokens);
      EXPECT_EQ(scored, request.scored_rows());
    }
  }
};

struct Case {
  const char* name;
  RouterType router;
  KvCachePolicy policy;
  bool runs_first, outside;
  int32_t recursions;
};

/// Every type of router with every cache policy that it allows.
inline std::vector<Case> scheduler_cases() {
  return {{"vanilla", RouterType::none, KvCachePolicy::recursion_wise, true, true, 0},
          {"recursive", RouterType::none, KvCachePolicy::recursion_wise, true, true, 3},
          {"recursive_shared", RouterType::none, KvCachePolicy::shared, true, false, 3},
          {"expert", RouterType::expert_choice, KvCachePolicy::recursion_wise, true, true, 3},
          {"expert_shared", RouterType::expert_choice, KvCachePolicy::shared, true, true, 3},
          {"expert_hybrid", RouterType::expert_choice, KvCachePolicy::hybrid, true, false, 3},
          {"expert_first_partial", RouterType::expert_choice, KvCachePolicy::recursion_wise, false, false, 3},
          {"expert_first_partial_shared", RouterType::expert_choice, KvCachePolicy::shared, false, true, 3},
          {"expert_first_partial_hybrid", RouterType::expert_choice, KvCachePolicy::hybrid, false, true, 3},
          {"token", RouterType::token_choice, KvCachePolicy::recursion_wise, true, true, 3},
          {"token_shared", RouterType::token_choice, KvCachePolicy::shared, true, false, 3}};
}

class SchedulerCase : public testing::TestWithParam<Case> {
 protected:
  SchedulerConfig config(int32_t blocks) const {
    SchedulerConfig c = small_config(GetParam().router, GetParam().policy, blocks);
    c.rules.runs_all[0] = GetParam().runs_first;
    c.layers_outside_block = GetParam().outside;
    if (GetParam().recursions == 0) {
      c.rules.block_recurs = false;
      c.block_stride = 0;
    }
    return c;
  }
  /// Blocks for the largest request alone, which has 34 tokens.
  static int32_t just_enough() {
    const int32_t lists = GetParam().policy == KvCachePolicy::shared ? 1 : GetParam().recursions;
    return small_config(GetParam().router, GetParam().policy, 0).scratch_blocks + (GetParam().outside ? 6 : 0) +
           9 * lists;
  }
};

}  // namespace mor::test
