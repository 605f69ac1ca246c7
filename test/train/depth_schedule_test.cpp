// Tests of the schedule of depth: its steps, and that a step of n recursions is the step of a model that has n.
#include <cmath>

#include "test/train/support.h"

namespace mor::test {
namespace {

TEST(DepthSchedule, EveryDepthBelowTheLastHasAsManySteps) {
  const int32_t expected[] = {1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3};  // in 9 steps; 4.5 is rounded up
  for (int64_t t = 0; t < 11; ++t) EXPECT_EQ((DepthSchedule{1, 9}).recursions(3, t), expected[t]) << t;
  EXPECT_EQ((DepthSchedule{2, 100}).recursions(4, 49), 2);
  EXPECT_EQ((DepthSchedule{2, 100}).recursions(4, 50), 3);
  EXPECT_EQ((DepthSchedule{2, 100}).recursions(4, 99), 3);
  EXPECT_EQ((DepthSchedule{2, 100}).recursions(4, 100), 4);
  EXPECT_EQ((DepthSchedule{}).recursions(3, 0), 3);
}

/// Without a router, N recursions of which n run are a model of n recursions with the same unique layers.
TEST(DepthSchedule, AStepOfFewRecursionsIsThatOfAShallowModel) {
  for (const KvCachePolicy kv : {KvCachePolicy::recursion_wise, KvCachePolicy::shared})
    for (const int32_t n : {1, 2}) {
      const ModelConfig deep = small_mor(RouterType::none, kv);
      ModelConfig shallow = deep;
      shallow.num_recursions = n;
      shallow.num_hidden_layers = 2 + 2 * n;
      if (n == 1) shallow.kv_cache = KvCachePolicy::recursion_wise;
      Model a(deep, cpu_float32()), b(shallow, cpu_float32());
      a.init(1);
      b.init(1);
      TrainerOptions options;
      options.depth = {n, 100};
      Trainer x(a, options), y(b, {});
      for (uint32_t t = 0; t < 3; ++t) {
        const StepResult first = x.step(batch(deep, t).data(), 1, kSequences, kLength);
        const StepResult second = y.step(batch(deep, t).data(), 1, kSequences, kLength);
        EXPECT_EQ(first.loss, second.loss) << n << " recursions, step " << t;
        EXPECT_EQ(first.gradient_norm, second.gradient_norm);
        EXPECT_EQ(first.flops, second.flops);
      }
      EXPECT_EQ(everything(x), everything(y));
    }
}

TEST(DepthSchedule, DropoutDrawsEverySmallerNumberAsOften) {
  DepthSchedule schedule;
  schedule.dropout = 0.3;
  std::vector<int> drawn(5, 0);
  for (int64_t t = 0; t < 10000; ++t) ++drawn.at(static_cast<size_t>(schedule.recursions(4, t)));
  const double expected[] = {0, 1000, 1000, 1000, 7000};
  for (size_t n = 0; n < 5; ++n) EXPECT_NEAR(drawn[n], expected[n], 4 * std::sqrt(expected[n])) << n;
  schedule.from = 2;
  schedule.steps = 10000;
  for (int64_t t = 0; t < 5000; ++t) EXPECT_LE(schedule.recursions(4, t), 2);
  EXPECT_EQ(schedule.recursions(1, 3), 1);
}

TEST(DepthSchedule, ADroppedStepRunsFewerRecursionsAndAResumedOneDrawsAlike) {
  for (const ModelConfig& config : small_models()) {
    Model model(config, cpu_float32());
    model.init(1);
    TrainerOptions options;
    options.depth.dropout = 0.5;
    Trainer trainer(model, options);
    trainer.set_steps_done(20);
    for (uint32_t t = 20; t < 28; ++t) {
      const StepResult result = trainer.step(batch(config, t).data(), 1, kSequences, kLength);
      EXPECT_EQ(result.recursions, options.depth.recursions(3, t)) << t;
      for (size_t r = 0; r < 3; ++r)
        if (r + 1 > static_cast<size_t>(result.recursions)) {
          EXPECT_EQ(result.depth_histogram.at(r), 0) << t;
        }
    }
  }
}

TEST(DepthSchedule, StepsGrowAndEvaluationsAreOfFullDepth) {
  for (const ModelConfig& config : small_models()) {
    Model model(config, cpu_float32());
    model.init(1);
    TrainerOptions options;
    options.depth = {1, 4};
    Trainer trainer(model, options);
    for (uint32_t t = 0; t < 6; ++t) {
      const int32_t expected = t < 2 ? 1 : t < 4 ? 2 : 3;
      const std::vector<int64_t> evaluated =
          trainer.evaluate(batch(config, t).data(), kSequences, kLength, Routing::topk).depth_histogram;
      std::vector<int64_t> depths = trainer.step(batch(config, t).data(), 1, kSequences, kLength).depth_histogram;
      while (!depths.empty() && depths.back() == 0) depths.pop_back();
      EXPECT_LE(depths.size(), static_cast<size_t>(expected)) << t;
      if (config.router.type != RouterType::token_choice) {
        EXPECT_EQ(depths.size(), static_cast<size_t>(expected)) << t;
        EXPECT_GT(evaluated.at(2), 0) << t;
      }
    }
  }
}

TEST(DepthSchedule, ADepthThatTheModelDoesNotHaveIsNamed) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::shared);
  Model model(config, cpu_float32());
  TrainerOptions options;
  options.depth = {4, 10};
  try {
    Trainer trainer(model, options);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
    EXPECT_STREQ(error.what(), "the schedule of depth begins with 4 recursions, but the model has 3");
  }
}

}  // namespace
}  // namespace mor::test
