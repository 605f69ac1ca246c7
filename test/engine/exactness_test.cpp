// Exactness on real devices in float32: whatever else runs, however prompts are cut and even when a sequence is thrown
// out and computed again, a request gets bit for bit what it gets alone. Must not know how the engine schedules.
#include <limits>

#include "device/device.h"
#include "test/engine/support.h"

namespace mor::test {
namespace {

struct Case {
  const char* name;
  int32_t layers, recursions;
  Sharing sharing;
  KvCachePolicy kv_cache;
  RouterType router;
  bool mlp = false, auxiliary = false;
};

ModelConfig config_for(const Case& c) {
  ModelConfig config;
  config.vocab_size = 101;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_hidden_layers = c.layers;
  config.num_attention_heads = 6;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 128;
  config.initializer_range = 0.2;
  config.num_recursions = c.recursions;
  config.sharing = c.sharing;
  config.kv_cache = c.kv_cache;
  config.router.type = c.router;
  config.router.activation = c.router == RouterType::token_choice ? Activation::softmax : Activation::sigmoid;
  config.router.alpha = c.router == RouterType::token_choice ? 1.0 : 0.3;
  config.router.mlp = c.mlp;
  config.router.auxiliary_router = c.auxiliary;
  return config;
}

class ExactnessCase : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    wanted = mixed_requests(config_for(GetParam()), 9, 40, 3);
    for (Wanted& w : wanted) w.params.max_tokens += 8;
  }
  std::vector<Wanted> wanted;
};

TEST_P(ExactnessCase, AnyMixGivesEachWhatItGetsAlone) {
  for (const TestDevice& device : test_devices()) {
    SCOPED_TRACE(device.name);
    Model model(config_for(GetParam()), device.make(DType::float32));
    model.init(17);
    std::vector<Generated> alone;
    for (const Wanted& w : wanted) {
      Engine engine(model, {});
      alone.push_back(run_engine(engine, {w}).at(0));
      EXPECT_EQ(alone.back().reason, FinishReason::length) << alone.back().message;
    }

    struct Setting {
      const char* name;
      int32_t batch, chunk, block_size;
      size_t apart;
      bool tight;
    };
    for (const Setting& setting :
         {Setting{"all at once", 16, 256, 16, 0, false}, Setting{"small chunks, staggered", 3, 5, 4, 2, false},
          Setting{"a tight cache", 16, 32, 4, 0, true}}) {
      SCOPED_TRACE(setting.name);
      EngineOptions options;
      options.max_batch_size = setting.batch;
      options.prefill_chunk = setting.chunk;
      options.block_size = setting.block_size;
      if (setting.tight) {
        // A hundred tokens: one or two requests at a time. Shared keys take one pass of the block, and scratch blocks.
        const ModelConfig& c = model.config();
        const bool shared = c.kv_cache == KvCachePolicy::shared;
        const int32_t scratch = shared ? (setting.batch + setting.chunk) * c.body_layers() : 0;
        const int32_t layers = 100 * (shared ? c.unique_layers() : c.num_hidden_layers) + scratch;
        options.kv_cache_bytes = static_cast<size_t>(layers * 2 * c.key_value_size()) * sizeof(float);
      }
      Engine engine(model, options);
      // The last request is aborted half-way.
      std::vector<Wanted> all = wanted;
      all.push_back(wanted[0]);
      all.back().params.max_tokens = 80;
      std::map<uint64_t, Generated> results;
      for (size_t i = 0, step = 0; i < all.size() || step == 0 || engine.stats().running + engine.stats().waiting > 0;
           ++step) {
        ASSERT_LT(step, 10000u);
        for (; i < all.size() && i * setting.apart <= step; ++i) engine.submit(i, all[i].prompt, all[i].params);
        if (results[all.size() - 1].tokens.size() > 3) engine.abort(all.size() - 1);
        std::vector<EngineEvent> events;
        engine.step(events);
        collect(events, results);
      }
      for (size_t i = 0; i < wanted.size(); ++i) {
        SCOPED_TRACE(concat("request ", i));
        expect_same_bits(results.at(i), alone[i]);
      }
      EXPECT_EQ(results.at(wanted.size()).reason, FinishReason::abort);
      EXPECT_EQ(engine.stats().preemptions > 0, setting.tight);
      EXPECT_EQ(engine.stats().kv_blocks_used, 0);
    }
  }
}

/// Blocks are not cleaned when they change hands: what a request that broke left there must reach nobody.
TEST_P(ExactnessCase, KeysLeftByABrokenRequestReachNobody) {
  for (const TestDevice& device : test_devices())
    for (const DType dtype : device.dtypes) {
      SCOPED_TRACE(concat(device.name, " ", dtype_name(dtype)));
      Model model(config_for(GetParam()), device.make(dtype));
      model.init(17);
      const int32_t broken = 100;
      std::vector<float> embedding(static_cast<size_t>(model.parameters().list()[0].count()));
      model.get(0, embedding.data());
      for (size_t j = 0; j < 48; ++j) embedding[broken * 48 + j] = std::numeric_limits<float>::quiet_NaN();
      model.set(0, embedding.data());
      Wanted bad, good;
      bad.prompt.assign(100, broken);
      bad.params.router_threshold = 0;  // NaN scores stop a token; this makes the others go deep
      for (size_t i = 0; i < 100; i += 2) bad.prompt[i] = static_cast<int32_t>(i);
      bad.prompt.back() = broken;
      good.prompt = random_tokens(37, 100, 8);
      good.params.max_tokens = 20;
      good.params.logprobs = true;

      Engine fresh(model, {}), used(model, {});
      const Generated expected = run_engine(fresh, {good}).at(0);
      EXPECT_EQ(expected.reason, FinishReason::length) << expected.message;
      EXPECT_EQ(run_engine(used, {bad}).at(0).reason, FinishReason::error);
      expect_same_bits(run_engine(used, {good}).at(0), expected);
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, ExactnessCase,
    testing::Values(
        Case{"vanilla", 3, 1, Sharing::middle_cycle, KvCachePolicy::recursion_wise, RouterType::none},
        Case{"recursive_sequence", 4, 2, Sharing::sequence, KvCachePolicy::recursion_wise, RouterType::none},
        Case{"recursive_shared", 8, 3, Sharing::middle_cycle, KvCachePolicy::shared, RouterType::none},
        Case{"expert", 8, 3, Sharing::middle_cycle, KvCachePolicy::recursion_wise, RouterType::expert_choice},
        Case{"expert_shared", 6, 3, Sharing::cycle, KvCachePolicy::shared, RouterType::expert_choice, true},
        Case{"expert_hybrid", 8, 3, Sharing::middle_cycle, KvCachePolicy::hybrid, RouterType::expert_choice, false,
             true},
        Case{"token", 8, 3, Sharing::middle_cycle, KvCachePolicy::recursion_wise, RouterType::token_choice},
        Case{"token_shared", 6, 3, Sharing::cycle, KvCachePolicy::shared, RouterType::token_choice, true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
