// Tests of the schedule of depth: its steps, and that a step of n recursions is the step of a model that has n.
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
