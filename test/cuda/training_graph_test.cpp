// Training steps on the GPU as one graph: from the third step of a shape on no layer is called, until something ends
// that; and steps that are given up have no effect. test/train checks that such steps compute the same.
#include "test/cuda/gpu.h"
#include "test/train/support.h"

namespace mor::test {
namespace {

constexpr int32_t kRows = 2, kTokens = 6;

/// A model that counts its layers whenever the host calls them.
struct Counted {
  Model model;
  Trainer trainer;
  int layers = 0;
  uint32_t seed = 0;
  Counted(const ModelConfig& config, DType dtype, const TrainerOptions& options = {})
      : model(config, make_ops("cuda:0", dtype, 1)), trainer(initialised(model), options) {
    model.set_interruption([this] { ++layers; });
  }
  static Model& initialised(Model& model) {
    model.init(1);
    return model;
  }
  /// How many layers the host called in a step. The one check before the work is not counted.
  int step(int32_t micro = 1, int32_t length = kTokens) {
    const int before = layers;
    const std::vector<int32_t> tokens = random_tokens(micro * kRows * (length + 1), model.config().vocab_size, seed++);
    trainer.step(tokens.data(), micro, kRows, length);
    return layers - before - 1;
  }
};

using TrainingGraph = GpuTest;

TEST_F(TrainingGraph, TheThirdStepOfAShapeCallsNothing) {
  for (const ModelConfig& config : small_models()) {
    const int32_t micro = config.kv_cache == KvCachePolicy::hybrid ? 3 : 1;
    Counted c(config, DType::bfloat16);
    const int counted = c.step(micro), once = c.step(micro);  // the first step also runs to count its memory
    EXPECT_EQ(counted, 2 * once);
    EXPECT_GE(once, 2 * micro * config.num_hidden_layers);
    const int expected = waits_for_counts(config) ? once : 0;
    EXPECT_EQ(c.step(micro), expected);
  }
}

TEST_F(TrainingGraph, EndsWithItsShapeItsCapacityAndItsMemory) {
  ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  Counted c(config, DType::float32);
  for (int i = 0; i < 3; ++i) c.step();
  EXPECT_EQ(c.step(), 0);
  EXPECT_GT(c.step(1, kTokens - 2), 0);
  EXPECT_GT(c.step(), 0);
  EXPECT_GT(c.step(), 0);
  EXPECT_EQ(c.step(), 0);
  const std::vector<int32_t> tokens = random_tokens(8 * kRows * 25, config.vocab_size, 9);
  c.trainer.evaluate(tokens.data(), kRows, kTokens, Routing::topk);
  c.step();  // counts its memory again, and keeps the memory it has
  EXPECT_EQ(c.step(), 0);
  c.trainer.evaluate(tokens.data(), 8 * kRows, 24, Routing::topk);
  EXPECT_GT(c.step(), 0) << "its memory has moved";
  EXPECT_GT(c.step(), 0);
  EXPECT_EQ(c.step(), 0);

  config.router.capacity_warmup_steps = 4;
  Counted warming(config, DType::float32);
  for (int i = 0; i < 4; ++i) EXPECT_GT(warming.step(), 0) << "the capacity changes at every step";
  warming.step();
  warming.step();
  EXPECT_EQ(warming.step(), 0);
}

struct GivenUp {};

/// Steps are given up at every point where the host can stop them: while memory is counted, in the first step, while
/// the second is captured, and before the third is launched.
TEST_F(TrainingGraph, AStepGivenUpNeverWas) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::hybrid);
  Model undisturbed(config, make_ops("cuda:0", DType::float32, 1)),
      disturbed(config, make_ops("cuda:0", DType::float32, 1));
  undisturbed.init(1);
  disturbed.init(1);
  Trainer a(undisturbed, {}), b(disturbed, {});
  for (uint32_t t = 0; t < 4; ++t) {
    const std::vector<int32_t> tokens = random_tokens(kRows * (kTokens + 1), config.vocab_size, t);
    const std::vector<std::vector<uint8_t>> before = everything(b);
    bool finished = false;
    for (int layers = 0; !finished; layers += layers == 0 ? 1 : 7) {
      disturbed.set_interruption([left = layers]() mutable {
        if (left-- == 0) throw GivenUp{};
      });
      try {
        b.step(tokens.data(), 1, kRows, kTokens);
        finished = true;
      } catch (const GivenUp&) {
        ASSERT_EQ(everything(b), before) << "step " << t << " given up at " << layers;
      }
    }
    a.step(tokens.data(), 1, kRows, kTokens);
    ASSERT_EQ(everything(a), everything(b)) << t;
  }
}

TEST_F(TrainingGraph, MayGoRightAfterAStepOrAnError) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::shared);
  for (const bool broken : {false, true}) {
    Model model(config, make_ops("cuda:0", DType::bfloat16, 1));
    model.init(1);
    auto trainer = std::make_unique<Trainer>(model, TrainerOptions{});
    const std::vector<int32_t> tokens = random_tokens(kRows * (kTokens + 1), config.vocab_size, 1);
    for (int i = 0; i < 3; ++i) trainer->step(tokens.data(), 1, kRows, kTokens);
    if (broken) {
      const auto count = static_cast<size_t>(model.parameters().list()[1].count());
      model.set(1, std::vector<float>(count, INFINITY).data());
      const std::vector<std::vector<uint8_t>> before = everything(*trainer);
      try {
        trainer->step(tokens.data(), 1, kRows, kTokens);
        ADD_FAILURE() << "no error";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::NON_FINITE) << error.what();
      }
      EXPECT_EQ(everything(*trainer), before);
    }
    trainer.reset();
    Trainer next(model, {});
    if (!broken) next.step(tokens.data(), 1, kRows, kTokens);
  }
}

}  // namespace
}  // namespace mor::test
