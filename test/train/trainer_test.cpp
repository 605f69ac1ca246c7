// Tests of the trainer: the 20-step trajectories of the PyTorch fixtures, bit-exact resume and recomputation, and
// refusal of bad steps.
#include "train/trainer.h"

#include <cmath>
#include <limits>

#include "test/train/support.h"

namespace mor::test {
namespace {

TrainerOptions options_of(const Fixture& f) {
  TrainerOptions o;
  o.learning_rate = f.scalar("training.learning_rate");
  o.schedule.type = ScheduleType::trapezoid;
  o.schedule.warmup_steps = static_cast<int64_t>(f.scalar("training.warmup_steps"));
  o.schedule.cooldown_steps = static_cast<int64_t>(f.scalar("training.cooldown_steps"));
  o.schedule.total_steps = static_cast<int64_t>(f.scalar("training.total_steps"));
  o.beta1 = f.scalar("training.beta1");
  o.beta2 = f.scalar("training.beta2");
  o.epsilon = f.scalar("training.epsilon");
  o.weight_decay = f.scalar("training.weight_decay");
  o.gradient_clip = f.scalar("training.gradient_clip");
  return o;
}

std::vector<std::string> trajectories() {
  std::vector<std::string> names;
  for (const std::string& name : Fixture::names())
    if (Fixture::load(name).has_tensor("trajectory_loss")) names.push_back(name);
  return names;
}

void expect_trajectory(const std::string& name, MakeOps make, double slack) {
  const Fixture f = Fixture::load(name);
  Model model(config_of(f), make());
  load_weights(f, model);
  Trainer trainer(model, options_of(f));
  const FixtureTensor& all = f.tensor("trajectory_tokens");
  const int64_t steps = all.shape[0], row = all.shape[3];
  const int32_t micro = static_cast<int32_t>(all.shape[1]), sequences = static_cast<int32_t>(all.shape[2]);
  const std::vector<double> values = all.values();
  const std::vector<int32_t> tokens(values.begin(), values.end());
  for (int64_t t = 0; t < steps; ++t) {
    const StepResult r =
        trainer.step(tokens.data() + t * micro * sequences * row, micro, sequences, static_cast<int32_t>(row) - 1);
    EXPECT_NEAR(r.learning_rate, f.tensor("trajectory_lr").at(t), 1e-12) << "step " << t;
    ASSERT_NEAR(r.loss, f.tensor("trajectory_loss").at(t), slack * f.scalar("float32_error.trajectory_loss") + 2e-6)
        << "step " << t;
    ASSERT_NEAR(r.lm_loss, f.tensor("trajectory_lm_loss").at(t),
                slack * f.scalar("float32_error.trajectory_lm_loss") + 2e-6)
        << "step " << t;
    ASSERT_NEAR(r.gradient_norm, f.tensor("trajectory_norm").at(t),
                slack * f.scalar("float32_error.trajectory_norm") + 1e-5)
        << "step " << t;
    if (f.has_tensor("trajectory_balancing_bias")) {
      const std::vector<double> bias = read_master(model.ops(), model.balancing_bias());
      for (size_t j = 0; j < bias.size(); ++j)
        EXPECT_NEAR(
            bias[j],
            f.tensor("trajectory_balancing_bias").at(t * static_cast<int64_t>(bias.size()) + static_cast<int64_t>(j)),
            1e-6);
    }
  }
  for (size_t i = 0; i < model.parameters().list().size(); ++i) {
    const Parameter& p = model.parameters().list()[i];
    if (!f.has_tensor("trained." + p.name)) continue;
    std::vector<float> weights(static_cast<size_t>(p.count()));
    model.get(i, weights.data());
    for (int64_t e = 0; e < p.count(); ++e)
      ASSERT_NEAR(weights[static_cast<size_t>(e)], f.tensor("trained." + p.name).at(e),
                  slack * f.scalar("float32_error.trained") + 1e-6)
          << p.name << "[" << e << "]";
  }
}

class Trajectory : public testing::TestWithParam<std::string> {};
TEST_P(Trajectory, OfTheReferenceDevice) {
  expect_trajectory(GetParam(), reference, 2);
}
TEST_P(Trajectory, OfTheCpuInFloat32) {
  expect_trajectory(GetParam(), cpu_float32, 4);
}
INSTANTIATE_TEST_SUITE_P(All, Trajectory, testing::ValuesIn(trajectories()),
                         [](const auto& info) { return info.param; });

TEST(Trainer, ResumedIsNeverStopped) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const ModelConfig& config : small_models()) {
      Model first(config, make()), second(config, make());
      first.init(1);
      Trainer a(first, {});
      for (uint32_t t = 0; t < 3; ++t) a.step(batch(config, t).data(), 1, kSequences, kLength);
      first.ops().copy(second.weights(), first.weights(), first.parameters().bytes());
      Trainer b(second, {});
      for (size_t i = 0; i < a.state().size(); ++i) {
        const std::vector<uint8_t> bytes = bytes_of(first.ops(), a.state()[i].tensor);
        second.ops().copy_to_device(b.state()[i].tensor.data, bytes.data(), bytes.size());
      }
      b.set_steps_done(a.steps_done());
      for (uint32_t t = 3; t < 6; ++t) {
        const StepResult x = a.step(batch(config, t).data(), 1, kSequences, kLength);
        const StepResult y = b.step(batch(config, t).data(), 1, kSequences, kLength);
        EXPECT_EQ(x.loss, y.loss);
      }
      EXPECT_EQ(everything(a), everything(b));
    }
}

/// A step that is interrupted at any layer, forward or backward, leaves weights, state and the next step unchanged.
TEST(Trainer, AnInterruptedStepNeverWas) {
  struct GivenUp {};
  for (const ModelConfig& config : small_models()) {
    Model undisturbed(config, cpu_bfloat16()), disturbed(config, cpu_bfloat16());
    undisturbed.init(1);
    disturbed.init(1);
    Trainer a(undisturbed, {}), b(disturbed, {});
    bool finished = false;
    for (int layers = 0; !finished; ++layers) {
      int left = layers;
      disturbed.set_interruption([&left] {
        if (left-- == 0) throw GivenUp{};
      });
      const std::vector<std::vector<uint8_t>> before = everything(b);
      try {
        b.step(batch(config, 0).data(), 1, kSequences, kLength);
        finished = true;
      } catch (const GivenUp&) {
        ASSERT_EQ(everything(b), before) << "given up before layer pass " << layers;
      }
    }
    disturbed.set_interruption({});
    a.step(batch(config, 0).data(), 1, kSequences, kLength);
    EXPECT_EQ(everything(a), everything(b));
  }
}

/// The number of one of small_models().
class SmallModel : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(All, SmallModel, testing::Range(size_t{0}, small_models().size()));

TEST_P(SmallModel, RecomputationChangesNothing) {
  const ModelConfig config = small_models()[GetParam()];
  for (const MakeOps make : {cpu_float32, cpu_bfloat16}) {
    Model kept(config, make()), recomputed(config, make());
    kept.init(1);
    recomputed.init(1);
    TrainerOptions options;
    Trainer a(kept, options);
    options.recompute = true;
    Trainer b(recomputed, options);
    for (uint32_t t = 0; t < 3; ++t)
      EXPECT_EQ(a.step(batch(config, t).data(), 1, kSequences, kLength).loss,
                b.step(batch(config, t).data(), 1, kSequences, kLength).loss);
    EXPECT_EQ(everything(a), everything(b));
    EXPECT_LT(b.memory().activations, a.memory().activations);
  }
}

TEST(Trainer, LossFallsOnARepeatedBatch) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const ModelConfig& config : small_models()) {
      Model model(config, make());
      model.init(1);
      TrainerOptions options;
      options.learning_rate = 1e-2;
      Trainer trainer(model, options);
      const double before = trainer.step(batch(config, 1).data(), 1, kSequences, kLength).lm_loss;
      double after = before;
      for (int t = 0; t < 60; ++t) after = trainer.step(batch(config, 1).data(), 1, kSequences, kLength).lm_loss;
      EXPECT_LT(after, before - 1.5);
    }
}

TEST(Trainer, ANonFiniteStepIsRefusedAndChangesNothing) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16}) {
    const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
    Model model(config, make());
    model.init(1);
    Trainer trainer(model, {});
    trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
    const Parameter& p = model.parameters().list()[1];
    std::vector<float> norm(static_cast<size_t>(p.count())), broken;
    model.get(1, norm.data());
    broken = norm;
    broken[0] = std::numeric_limits<float>::infinity();
    model.set(1, broken.data());
    const std::vector<std::vector<uint8_t>> before = everything(trainer);
    try {
      trainer.step(batch(config, 1).data(), 1, kSequences, kLength);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::NON_FINITE) << error.what();
    }
    EXPECT_EQ(everything(trainer), before);
    EXPECT_EQ(trainer.steps_done(), 1);
    model.set(1, norm.data());
    EXPECT_TRUE(std::isfinite(trainer.step(batch(config, 1).data(), 1, kSequences, kLength).loss));
  }
}

/// Router scores above the square root of the largest float: their squares in the z-loss are infinite, their gates and
/// gradients are finite.
TEST(Trainer, ALossThatIsNotFiniteIsRefusedThoughItsGradientIs) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16}) {
    const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
    Model model(config, make());
    model.init(1);
    Trainer trainer(model, {});
    for (uint32_t t = 0; t < 3; ++t) trainer.step(batch(config, t).data(), 1, kSequences, kLength);
    size_t router = 0;
    while (model.parameters().list()[router].name.find("routers.1") == std::string::npos) ++router;
    const auto count = static_cast<size_t>(model.parameters().list()[router].count());
    std::vector<float> weights(count);
    model.get(router, weights.data());
    model.set(router, std::vector<float>(count, 1e25f).data());
    const std::vector<std::vector<uint8_t>> before = everything(trainer);
    try {
      trainer.step(batch(config, 3).data(), 1, kSequences, kLength);
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::NON_FINITE) << error.what();
    }
    EXPECT_EQ(everything(trainer), before);
    model.set(router, weights.data());
    EXPECT_EQ(trainer.step(batch(config, 3).data(), 1, kSequences, kLength).step, 4);
  }
}

TEST(Trainer, BadTokensAreNamed) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  Model model(config, cpu_float32());
  model.init(1);
  Trainer trainer(model, {});
  std::vector<int32_t> tokens = batch(config, 0);
  tokens[30] = 61;
  try {
    trainer.step(tokens.data(), 1, kSequences, kLength);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::TOKEN_OUT_OF_RANGE);
    EXPECT_STREQ(error.what(), "token 61 at row 1, place 5 is outside the vocabulary of 61");
  }
  const std::vector<int32_t> longer(66, 0);
  try {
    trainer.step(longer.data(), 1, 1, 65);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::CONTEXT_OVERFLOW);
    EXPECT_STREQ(error.what(), "rows of 65 tokens do not fit the context of 64");
  }
}

TEST(Trainer, AccumulationIsTheMeanOfItsMicroBatches) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  Model whole(config, reference()), split(config, reference());
  whole.init(1);
  split.init(1);
  Trainer a(whole, {}), b(split, {});
  const StepResult x = a.step(batch(config, 0).data(), 1, 2, kLength),
                   y = b.step(batch(config, 0).data(), 2, 1, kLength);
  EXPECT_NEAR(x.loss, y.loss, 1e-12);
  EXPECT_NEAR(x.gradient_norm, y.gradient_norm, 1e-12);
  EXPECT_EQ(x.flops, y.flops);
}

/// Training and evaluation of one model at one time select alike.
TEST(Trainer, EvaluationByTopKFollowsTheCapacityWarmUp) {
  ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  config.router.capacity_warmup_steps = 2;
  Model model(config, cpu_float32());
  model.init(1);
  Trainer trainer(model, {});
  const std::vector<int64_t> expected[] = {{0, 0, 48}, {8, 8, 32}, {16, 16, 16}, {16, 16, 16}};
  for (uint32_t t = 0; t < 4; ++t) {
    const StepResult evaluated = trainer.evaluate(batch(config, t).data(), kSequences, kLength, Routing::topk);
    const StepResult trained = trainer.step(batch(config, t).data(), 1, kSequences, kLength);
    EXPECT_EQ(evaluated.depth_histogram, expected[t]) << t;
    EXPECT_EQ(trained.depth_histogram, expected[t]) << t;
    EXPECT_NEAR(evaluated.loss, trained.loss, 1e-6) << t;
  }
}

TEST(Trainer, ExecutedFlopsFollowTheActiveRows) {
  const ModelConfig mor = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  Model model(mor, cpu_float32());
  model.init(1);
  Trainer trainer(model, {});
  const StepResult r = trainer.step(batch(mor, 0).data(), 1, kSequences, kLength);
  EXPECT_EQ(r.depth_histogram, (std::vector<int64_t>{16, 16, 16}));
  // For each sequence: 2 unshared layers on 24 rows, 2 block layers on 24, 16 and 8 rows, the head on 24 rows, routers
  // on 24, 24 and 16 rows.
  const auto layer = [&](double rows) {
    const double weights = 32.0 * (mor.qkv_size() + mor.query_size() + 3 * 48);
    return 2 * weights * rows + 4 * (rows * (rows + 1) / 2) * mor.query_size();
  };
  const double forward =
      2 * layer(24) + 2 * (layer(24) + layer(16) + layer(8)) + 2.0 * 61 * 32 * 24 + 2.0 * 32 * (24 + 24 + 16);
  EXPECT_DOUBLE_EQ(r.flops, 3 * kSequences * forward);
  const double vanilla = 8 * layer(24) + 2.0 * 61 * 32 * 24;
  EXPECT_DOUBLE_EQ(r.vanilla_flops, 3 * kSequences * vanilla);
}

}  // namespace
}  // namespace mor::test
