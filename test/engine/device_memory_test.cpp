// Tests of an engine on a device that runs out of memory: each allocation of device memory fails in turn, while the
// engine is made and while it runs.
#include <map>

#include "test/engine/support.h"

namespace mor::test {
namespace {

/// A device of whose allocations one fails: the next after `until_failure` others. Below 0: none fails.
class ScarceOps final : public RefOps<float> {
 public:
  ~ScarceOps() override { EXPECT_TRUE(held.empty()); }
  void* allocate(size_t bytes) override {
    if (until_failure-- == 0) MOR_FAIL(OUT_OF_MEMORY, "the device has no ", bytes, " bytes left");
    void* pointer = RefOps<float>::allocate(bytes);
    held[pointer] = bytes;
    return pointer;
  }
  void release(void* pointer, size_t bytes) noexcept override {
    EXPECT_EQ(held[pointer], bytes);
    held.erase(pointer);
    RefOps<float>::release(pointer, bytes);
  }

  int64_t until_failure = -1;
  std::map<void*, size_t> held;  ///< bytes
};

class DeviceMemory : public testing::TestWithParam<RouterType> {
 protected:
  DeviceMemory() {
    ModelConfig c = tiny_config();
    c.num_hidden_layers = 5;
    c.intermediate_size = 1024;  // so that a prompt takes more than the first block of an arena
    c.num_recursions = 3;
    c.max_position_embeddings = 64;
    set_router(c, GetParam());
    auto made = std::make_unique<ScarceOps>();
    ops = made.get();
    model = std::make_unique<Model>(c, std::move(made));
    model->init(3);
    for (const int32_t prompt : {3, 40, 20}) {
      Wanted w;
      w.prompt = random_tokens(prompt, c.vocab_size, 5);
      w.params.max_tokens = 6;
      wanted.push_back(w);
    }
  }
  ScarceOps* ops;
  std::unique_ptr<Model> model;
  std::vector<Wanted> wanted;
};

/// Also of a cache whose first blocks belong to no sequence: where later recursions see the keys of the first one.
TEST_P(DeviceMemory, IsCountedByPurpose) {
  ModelConfig c = model->config();
  c.kv_cache = KvCachePolicy::shared;
  auto made = std::make_unique<ScarceOps>();
  ScarceOps& own = *made;
  Model shared(c, std::move(made));
  shared.init(3);
  const auto bytes_held = [&] {
    size_t bytes = 0;
    for (const auto& [pointer, size] : own.held) bytes += size;
    return bytes;
  };
  const size_t before = bytes_held();
  Engine engine(shared, {});
  const auto check = [&] { EXPECT_EQ(engine.memory().kv_cache + engine.memory().activations, bytes_held() - before); };
  check();
  run_engine(engine, wanted, 3);
  check();
  EXPECT_GT(engine.memory().kv_cache, engine.stats().kv_bytes_total);
}

/// Requests end with what they get alone or with OUT_OF_MEMORY, and all memory is given back.
TEST_P(DeviceMemory, AtAnyAllocationNothingIsLost) {
  std::map<uint64_t, Generated> expected;
  {
    Engine engine(*model, {});
    expected = run_engine(engine, wanted, 3);
  }
  const auto held = ops->held;
  int64_t failures = 0, failed_engines = 0;
  for (bool failed = true; failed; ++failures) {
    SCOPED_TRACE(concat("allocation ", failures));
    ops->until_failure = failures;
    std::unique_ptr<Engine> engine;
    try {
      engine = std::make_unique<Engine>(*model, EngineOptions{});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::OUT_OF_MEMORY);
      EXPECT_EQ(ops->held, held);
      ++failed_engines;
      continue;
    }
    const std::map<uint64_t, Generated> results = run_engine(*engine, wanted, 3);
    failed = false;
    for (const auto& [id, generated] : results) {
      ASSERT_TRUE(generated.finished);
      if (generated.reason == FinishReason::error) {
        EXPECT_EQ(generated.code, ErrorCode::OUT_OF_MEMORY);
        failed = true;
      } else {
        expect_same_bits(generated, expected.at(id));
      }
    }
    EXPECT_EQ(failed, ops->until_failure < 0);
    ops->until_failure = -1;
    EXPECT_EQ(engine->stats().kv_blocks_used, 0);
    const std::map<uint64_t, Generated> again = run_engine(*engine, wanted, 3);
    for (const auto& [id, generated] : again) expect_same_bits(generated, expected.at(id));
    engine.reset();
    EXPECT_EQ(ops->held, held);
  }
  EXPECT_GE(failed_engines, 2) << "the KV cache and the stream";
  EXPECT_GE(failures - failed_engines, 3) << "the memory of stages grows";
}

INSTANTIATE_TEST_SUITE_P(All, DeviceMemory,
                         testing::Values(RouterType::none, RouterType::expert_choice, RouterType::token_choice),
                         [](const auto& info) {
                           return info.param == RouterType::none            ? "recursive"
                                  : info.param == RouterType::expert_choice ? "expert"
                                                                            : "token";
                         });

}  // namespace
}  // namespace mor::test
