// Compares training steps that a device replays from a recording with steps that it runs op by op, bit for bit, on
// every device of the machine.
#include "test/test_devices.h"
#include "test/train/support.h"

namespace mor::test {
namespace {

/// Compares consecutive steps of one trainer with steps that are each the first step of a trainer made from the state
/// before it. A device that records replays the former and runs the latter op by op; both must compute the same.
void expect_steps_as_one_by_one(const ModelConfig& config, const TestDevice& device, DType dtype, int32_t micro,
                                const std::vector<int32_t>& lengths, TrainerOptions options = {}) {
  SCOPED_TRACE(concat(device.name, " ", dtype_name(dtype)));
  options.schedule.warmup_steps = 4;
  Model model(config, device.make(dtype)), other(config, device.make(dtype));
  model.init(1);
  other.init(1);
  Trainer trainer(model, options);
  auto alone = std::make_unique<Trainer>(other, options);
  for (size_t t = 0; t < lengths.size(); ++t) {
    const std::vector<int32_t> tokens =
        random_tokens(micro * kSequences * (lengths[t] + 1), config.vocab_size, static_cast<uint32_t>(t));
    const StepResult a = trainer.step(tokens.data(), micro, kSequences, lengths[t]);
    const StepResult b = alone->step(tokens.data(), micro, kSequences, lengths[t]);
    EXPECT_EQ(a.loss, b.loss) << t;
    EXPECT_EQ(a.gradient_norm, b.gradient_norm) << t;
    EXPECT_EQ(a.learning_rate, b.learning_rate) << t;
    EXPECT_EQ(a.recursions, b.recursions) << t;
    EXPECT_EQ(a.distillation_loss, b.distillation_loss) << t;
    EXPECT_EQ(a.flops, b.flops) << t;
    EXPECT_EQ(a.depth_histogram, b.depth_histogram) << t;
    EXPECT_EQ(a.routing_accuracy, b.routing_accuracy) << t;
    EXPECT_EQ(a.dead_token_ratio, b.dead_token_ratio) << t;
    ASSERT_EQ(everything(trainer), everything(*alone)) << t;
    EXPECT_EQ(trainer.evaluate(tokens.data(), 1, 3, Routing::topk).loss,
              alone->evaluate(tokens.data(), 1, 3, Routing::topk).loss);
    auto next = std::make_unique<Trainer>(other, options);
    for (size_t i = 0; i < next->state().size(); ++i) {
      const std::vector<uint8_t> bytes = bytes_of(other.ops(), alone->state()[i].tensor);
      other.ops().copy_to_device(next->state()[i].tensor.data, bytes.data(), bytes.size());
    }
    next->set_steps_done(alone->steps_done());
    alone = std::move(next);
  }
}

/// small_models(), of which one has an MLP as its router and an auxiliary router.
std::vector<ModelConfig> configs() {
  std::vector<ModelConfig> list = small_models();
  list[2].router.mlp = list[2].router.auxiliary_router = true;
  return list;
}

class ReplayOf : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(SmallModel, ReplayOf, testing::Range(size_t{0}, configs().size()));

TEST_P(ReplayOf, StepsInARowAreStepsOneByOne) {
  for (const TestDevice& device : test_devices(DType::float32))
    expect_steps_as_one_by_one(configs()[GetParam()], device, DType::float32, 1, {8, 8, 8, 8});
}

class ReplayOfMicroBatches : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(SmallModel, ReplayOfMicroBatches, testing::Values(1, 2));

TEST_P(ReplayOfMicroBatches, StepsInARowAreStepsOneByOne) {
  for (const TestDevice& device : test_devices(DType::bfloat16))
    expect_steps_as_one_by_one(configs()[GetParam()], device, DType::bfloat16, 3, {4, 4, 4, 4});
}

TEST(Replay, ACapacityThatWarmsUpAndLengthsThatChangeAreFollowed) {
  ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  for (const TestDevice& device : test_devices(DType::float32)) {
    config.router.capacity_warmup_steps = 0;
    expect_steps_as_one_by_one(config, device, DType::float32, 1, {8, 8, 8, 12, 12, 12, 6, 8, 8, 8});
    config.router.capacity_warmup_steps = 3;
    expect_steps_as_one_by_one(config, device, DType::float32, 1, {8, 8, 8, 8, 8, 8, 8});
  }
}

TEST(Replay, ADepthThatGrowsAndFrozenParametersAreFollowed) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  TrainerOptions options;
  options.depth = {1, 6};
  options.parameters.push_back({"model.embed_tokens.weight"});
  options.parameters.back().frozen = true;
  for (const TestDevice& device : test_devices(DType::float32))
    expect_steps_as_one_by_one(config, device, DType::float32, 1, {4, 4, 4, 4, 4, 4, 4, 4}, options);
}

TEST(Replay, ATeacherAndItsPupilsDepthAreFollowed) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  ModelConfig of_teacher = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  of_teacher.num_recursions = 1;
  for (const TestDevice& device : test_devices(DType::float32)) {
    Model teacher(of_teacher, device.make(DType::float32));
    teacher.init(2);
    teacher.ops().synchronize();
    TrainerOptions options;
    options.depth = {1, 8};
    options.capacity_warmup_steps = 4;
    options.distillation.teacher = &teacher;
    for (const char* name : {"model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"}) {
      options.parameters.push_back({name});
      options.parameters.back().frozen = true;
    }
    expect_steps_as_one_by_one(config, device, DType::float32, 1, std::vector<int32_t>(12, 6), options);
  }
}

/// Targets that are left out change the scale of the loss, which recorded work has as a constant.
TEST(Replay, ALossMaskIsFollowed) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  for (const TestDevice& device : test_devices(DType::float32)) {
    Model model(config, device.make(DType::float32)), other(config, device.make(DType::float32));
    model.init(1);
    other.init(1);
    Trainer trainer(model, {});
    const std::vector<int32_t> tokens = random_tokens(9, config.vocab_size, 1);
    const std::vector<uint8_t> all(9, 1), some = {1, 1, 0, 0, 1, 0, 1, 1, 1};
    for (int t = 0; t < 3; ++t) trainer.step({tokens.data(), all.data(), {{1, 8}}});
    const std::vector<uint8_t> weights =
        bytes_of(model.ops(), make_vector(model.weights(), DType::float32,
                                          static_cast<int64_t>(model.parameters().bytes() / sizeof(float)), "weights"));
    other.ops().copy_to_device(other.weights(), weights.data(), weights.size());
    const StepResult a = trainer.step({tokens.data(), some.data(), {{1, 8}}});
    const StepResult b = Trainer(other, {}).step({tokens.data(), some.data(), {{1, 8}}});
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  }
}

}  // namespace
}  // namespace mor::test
