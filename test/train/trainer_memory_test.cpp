// Tests of the trainer's memory: all of it is allocated before the first step of a shape, and an error names what could
// not be allocated.
#include "test/train/support.h"

namespace mor::test {
namespace {

/// A device with a limited amount of memory, which counts allocations.
class LimitedOps final : public RefOps<float> {
 public:
  void* allocate(size_t bytes) override {
    MOR_CHECK(bytes <= left, OUT_OF_MEMORY, "the device has no ", bytes, " bytes left");
    left -= bytes;
    ++allocations;
    return RefOps<float>::allocate(bytes);
  }
  void release(void* pointer, size_t bytes) noexcept override {
    left += bytes;
    RefOps<float>::release(pointer, bytes);
  }
  size_t left = size_t{1} << 40;
  int allocations = 0;
};

TEST(TrainerMemory, IsTakenBeforeTheFirstStepOfAShapeAndNeverLater) {
  for (const ModelConfig& config : small_models()) {
    auto owned = std::make_unique<LimitedOps>();
    LimitedOps& device = *owned;
    Model model(config, std::move(owned));
    model.init(1);
    Trainer trainer(model, {});
    trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
    const size_t taken = trainer.memory().total(), left = device.left;
    const int allocations = device.allocations;
    for (uint32_t t = 1; t < 4; ++t) {
      trainer.step(batch(config, t).data(), 1, kSequences, kLength);
      trainer.evaluate(batch(config, t).data(), 1, kLength, Routing::threshold);
      trainer.step(batch(config, t).data(), 1, kSequences, kLength / 2);
    }
    EXPECT_EQ(device.allocations, allocations);
    EXPECT_EQ(device.left, left);
    EXPECT_EQ(trainer.memory().total(), taken);
  }
}

TEST(TrainerMemory, ThatCannotBeHadIsNamedBeforeAnythingIsComputed) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  auto owned = std::make_unique<LimitedOps>();
  LimitedOps& device = *owned;
  Model model(config, std::move(owned));
  model.init(1);
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::OUT_OF_MEMORY);
      return error.what();
    }
    return "no error";
  };
  const size_t flat = static_cast<size_t>(model.parameters().size()) * 4, all = device.left;
  device.left = 3 * flat;  // enough for the three buffers, not for what comes with them
  const std::string made = message([&] { Trainer trainer(model, {}); });
  EXPECT_EQ(made.find(concat("a trainer takes 0 bytes of master weights, ", flat, " of gradients and ", 2 * flat,
                             " of optimizer state, but the device has no ")),
            0u)
      << made;
  EXPECT_EQ(device.left, 3 * flat);
  device.left = all;

  Trainer trainer(model, {});
  trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
  const size_t small = trainer.memory().activations;
  const std::vector<std::vector<uint8_t>> before = everything(trainer);
  device.left = small;
  const std::vector<int32_t> many = random_tokens(2 * 4 * kSequences * (kLength + 1), config.vocab_size, 3);
  const std::string stepped = message([&] { trainer.step(many.data(), 2, 4 * kSequences, kLength); });
  EXPECT_EQ(stepped.find(concat("2 x ", 4 * kSequences, " rows of ", kLength, " tokens take ")), 0u) << stepped;
  EXPECT_NE(stepped.find(" bytes of activations, but the device has no "), std::string::npos) << stepped;
  EXPECT_GT(trainer.memory().activations, 2 * small) << "what is missing is what has to become smaller";
  EXPECT_EQ(everything(trainer), before);
  EXPECT_EQ(trainer.step(batch(config, 1).data(), 1, kSequences, kLength).step, 2);
  EXPECT_LT(trainer.memory().activations, 2 * small) << "what was refused is forgotten when another batch fits";
}

}  // namespace
}  // namespace mor::test
