// Tests of the scheduler at a steady load of decoding sequences: boundary stages run when that pays, and planning a
// step takes microseconds.
#include <chrono>
#include <cstdio>

#include "test/engine/ghost_device.h"

namespace mor::test {
namespace {

/// Decoding at a steady load with depths uniform in 1 .. N: what the passes would cost, and the scheduler's own time.
struct SteadyLoad {
  double share_of_ideal = 0;     ///< cost of a token if every batch were full, divided by its cost here
  double passes_a_boundary = 0;  ///< passes of the block for each run of the boundary stages
  double microseconds = 0;       ///< median time of the scheduler in a step
  double prepared = 0;           ///< the part of it while the device works
};

SteadyLoad decode_at_steady_load(int32_t recursions, double block_cost, double boundary_cost, int32_t batch,
                                 int32_t requests, int32_t block_size = 8, bool prefix_cache = true) {
  SchedulerConfig c;
  c.prefix_cache = prefix_cache;
  c.rules.num_recursions = recursions;
  c.rules.block_recurs = true;
  c.rules.router = RouterType::token_choice;
  c.rules.runs_all.assign(static_cast<size_t>(recursions), true);
  c.blocks = 400000;
  c.block_size = c.outside_block_size = block_size;
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
  Clock::duration spent{}, preparing{};
  std::vector<double> microseconds, prepared;
  const auto timed = [&](const auto& call) {
    const Clock::time_point begin = Clock::now();
    const auto result = call();
    spent += Clock::now() - begin;
    return result;
  };
  const auto prepare = [&] {
    const Clock::duration before = spent;
    timed([&] { return scheduler.prepare(), 0; });
    preparing += spent - before;
  };
  StageOutcome outcome;
  std::vector<RequestEvent> events;
  constexpr int kStart = 100, kSteps = 500;
  for (int step = 0; step < kStart + kSteps; ++step) {
    const double counts = step >= kStart ? 1 : 0;
    spent = preparing = {};
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
      prepare();
      timed([&] { return scheduler.commit_rows(outcome), 0; });
    }
    if (timed([&] { return scheduler.plan_block(); }) != nullptr) {
      cost += counts * block_cost;
      passes += counts;
      prepare();
      timed([&] { return scheduler.commit_rows(outcome), 0; });
    }
    if (const StagePlan* plan = timed([&] { return scheduler.plan_exit(); })) {
      const double rows = static_cast<double>(plan->sampled.size());
      cost += counts * boundary_cost * std::max(1.0, rows / batch);
      boundaries += counts;
      tokens += counts * rows;
      for (const Sequence* s : plan->sampled) depths += counts * s->rows.back().depth;
      outcome.token.assign(plan->sampled.size(), 1);
      outcome.logprob.assign(plan->sampled.size(), 0);
      prepare();
      timed([&] { return scheduler.commit_exit(outcome, events), 0; });
    }
    if (step < kStart) continue;
    microseconds.push_back(std::chrono::duration<double, std::micro>(spent).count());
    prepared.push_back(std::chrono::duration<double, std::micro>(preparing).count());
  }
  std::sort(microseconds.begin(), microseconds.end());
  std::sort(prepared.begin(), prepared.end());
  const double ideal = (boundary_cost + depths / tokens * block_cost) / batch;
  return {ideal / (cost / tokens), passes / boundaries, microseconds[kSteps / 2], prepared[kSteps / 2]};
}

/// Shapes of docs/model.md section 1: layers of the block, and the head in units of a layer.
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
      // If no request waits, sequences that wait for the boundary stages leave rows of the block empty.
      EXPECT_GT(load.share_of_ideal, requests > 64 ? 0.95 : 0.75);
    }
  }
}

/// The bound is loose, because the machine may be busy with other work; the figure is printed.
TEST(Scheduler, PlansAStepOf256SequencesInMicroseconds) {
  for (const int32_t block_size : {8, 16})
    for (const bool prefix_cache : {false, true}) {
      const SteadyLoad load = decode_at_steady_load(3, 10, 6.8, 256, 256, block_size, prefix_cache);
      std::printf(
          "%.1f us a step with 256 sequences of 1000 to 2000 tokens, %.1f of them while the device works; block size "
          "%d, prefix cache %s\n",
          load.microseconds, load.prepared, block_size, prefix_cache ? "on" : "off");
      EXPECT_LT(load.microseconds, 1000);
    }
}

}  // namespace
}  // namespace mor::test
