// Tests of requests of high priority.
#include "test/engine/scheduler_simulation.h"

namespace mor::test {
namespace {

/// Requests of high priority that arrive while the engine is full are served as if they were alone. Other requests get
/// the same results, only later.
TEST_P(SchedulerCase, HighPriorityIsServedAsIfAlone) {
  for (const bool tight : {true, false}) {
    SCOPED_TRACE(tight ? "tight" : "roomy");
    const SchedulerConfig c = config(tight ? just_enough() : 400);
    std::mt19937 random(7);
    std::vector<Request> low, high;
    for (uint64_t id = 0; id < 30; ++id) {
      low.push_back(random_request(id, random, c.rules.passes()));
      low.back().prompt.resize(3);
      low.back().prompt_logprobs_from = std::min(low.back().prompt_logprobs_from, 3);
      low.back().max_tokens = 15;
    }
    for (uint64_t id = 30; id < 33; ++id) {
      high.push_back(random_request(id, random, c.rules.passes()));
      high.back().priority = 1;
    }
    const auto steps_until_high_is_done = [&](Simulation& simulation) {
      for (const Request& r : high) simulation.scheduler.submit(r);
      for (int64_t step = 1;; ++step) {
        simulation.step();
        size_t ended = 0;
        for (const Request& r : high) {
          const std::vector<RequestEvent>& events = simulation.events[r.id];
          ended += !events.empty() && events.back().kind == RequestEvent::Kind::finish;
        }
        if (ended == high.size() || step > 10000) return step;
      }
    };
    Simulation alone(c, 7), crowded(c, 7);
    const int64_t wanted = steps_until_high_is_done(alone);
    for (const Request& r : low) crowded.scheduler.submit(r);
    for (int i = 0; i < 12; ++i) crowded.step();
    const int64_t before = crowded.scheduler.stats().preemptions;
    // The block takes rows in the order in which they became ready, whatever their priority, and a prompt of low
    // priority may still be in flight.
    EXPECT_LE(steps_until_high_is_done(crowded), 2 * wanted + 8);
    EXPECT_GT(crowded.scheduler.stats().preemptions, before) << "no sequence was displaced";
    while (crowded.scheduler.unfinished()) crowded.step();
    for (const Request& r : low) crowded.check(r, false);
    for (const Request& r : high) crowded.check(r, false);
  }
}

/// A request may displace the only sequence that holds their common beginning. It gains the room of what that sequence
/// alone held, and no more.
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
    submit(random_request(0, random, c.rules.passes()), 1);
    std::vector<Request> families;
    for (int32_t i = 0; i < 3; ++i) {
      Request r = random_request(0, random, c.rules.passes());
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
      ASSERT_LT(++steps, 5000) << "a request starves";
    }
    for (const Request& r : requests) simulation.check(r, false);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SchedulerCase, testing::ValuesIn(scheduler_cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
