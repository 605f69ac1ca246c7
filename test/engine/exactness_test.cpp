// Tests of exactness on real devices in float32: a request gets bit for bit what it gets alone, whatever else runs,
// however its prompt is cut into chunks, and also if it is preempted and computed again.
#include <limits>

#include "test/engine/support.h"
#include "test/test_devices.h"

namespace mor::test {
namespace {

struct Case {
  const char* name;
  int32_t layers, recursions;
  Sharing sharing;
  KvCachePolicy kv_cache;
  RouterType router;
  bool mlp = false, auxiliary = false, bias_and_norm = false, gates_update = false, by_threshold = false;
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
  config.qkv_bias = config.qk_norm = c.bias_and_norm;
  set_router(config, c.router);
  config.router.alpha = c.router == RouterType::token_choice ? 1.0 : 0.3;
  config.router.mlp = c.mlp;
  config.router.auxiliary_router = c.auxiliary;
  config.router.gates_update = c.gates_update;
  config.router.selects_by_threshold = c.by_threshold;
  return config;
}

/// Bytes of a KV cache for about `tokens` tokens, of which the `shared` policy stores one pass of the block, and with
/// scratch blocks for `rows` rows.
size_t bytes_for(const ModelConfig& c, int64_t tokens, int32_t rows) {
  const bool shared = c.kv_cache == KvCachePolicy::shared;
  const int64_t layers =
      tokens * (shared ? c.unique_layers() : c.num_hidden_layers) + (shared ? rows * c.body_layers() : 0);
  return static_cast<size_t>(layers * 2 * c.key_value_size()) * sizeof(float);
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
  for (const TestDevice& device : test_devices(DType::float32)) {
    SCOPED_TRACE(device.name);
    Model model(config_for(GetParam()), device.make(DType::float32));
    init_with_biases(model, 17);
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
      if (setting.tight) options.kv_cache_bytes = bytes_for(model.config(), 100, setting.batch + setting.chunk);
      Engine engine(model, options);
      // The last request is aborted in the middle.
      std::vector<Wanted> all = wanted;
      all.push_back(wanted[0]);
      all.back().params.max_tokens = 80;
      std::map<uint64_t, Generated> results;
      for (size_t i = 0, step = 0; i < all.size() || step == 0 || engine.stats().running + engine.stats().waiting > 0;
           ++step) {
        ASSERT_LT(step, 10000u);
        for (; i < all.size() && i * setting.apart <= step; ++i) engine.submit(i, all[i].prompt, all[i].params);
        if (results[all.size() - 1].tokens.size() > 3) engine.abort(all.size() - 1);
        std::vector<RequestEvent> events;
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

/// Requests with common beginnings: equal prompts, longer and shorter ones, a prompt that continues what another
/// request generated, and equal prompts with other routing options, which must share nothing.
std::vector<Wanted> alike_requests(const ModelConfig& config, const Model& model) {
  std::vector<Wanted> wanted;
  const std::vector<int32_t> base = random_tokens(45, config.vocab_size, 21);
  const auto add = [&](std::vector<int32_t> prompt) -> Wanted& {
    Wanted w;
    w.prompt = std::move(prompt);
    w.params.max_tokens = 12 + static_cast<int32_t>(wanted.size()) % 5;
    w.params.logprobs = true;
    w.params.top_logprobs = static_cast<int32_t>(wanted.size()) % 4;
    w.params.prompt_logprobs = wanted.size() % 5 == 4 ? 2 : -1;  // these find no beginning that they must report
    w.params.seed = wanted.size();
    w.params.temperature = wanted.size() % 2 == 0 ? 0 : 1.5;
    // Of a beginning that is found and not computed, the tokens count all the same.
    w.params.repetition_penalty = wanted.size() % 3 == 1 ? 1.4 : 1;
    w.params.frequency_penalty = wanted.size() % 3 == 2 ? 0.7 : 0;
    wanted.push_back(w);
    return wanted.back();
  };
  for (const int64_t common : {45, 45, 32, 31, 17, 8, 40}) {
    std::vector<int32_t> prompt(base.begin(), base.begin() + common);
    const std::vector<int32_t> tail = random_tokens(static_cast<int32_t>(wanted.size()) * 3, config.vocab_size, 22);
    prompt.insert(prompt.end(), tail.begin(), tail.end());
    add(prompt);
  }
  add(base).params.router_threshold = 0.45;
  add(base).params.max_recursions = std::max(1, config.num_recursions - 1);
  Engine engine(model, {});
  std::vector<int32_t> conversation = base;
  const Generated answer = run_engine(engine, {wanted[0]}).at(0);
  conversation.insert(conversation.end(), answer.tokens.begin(), answer.tokens.end());
  conversation.push_back(7);
  add(conversation);
  Wanted& reported = add(conversation);
  reported.params.prompt_logprobs = 1;
  reported.params.prompt_logprobs_from = 30;
  return wanted;
}

TEST_P(ExactnessCase, PrefixHitsChangeNothing) {
  for (const TestDevice& device : test_devices(DType::float32)) {
    SCOPED_TRACE(device.name);
    Model model(config_for(GetParam()), device.make(DType::float32));
    init_with_biases(model, 17);
    const std::vector<Wanted> alike = alike_requests(model.config(), model);
    std::vector<Generated> cold;
    for (const Wanted& w : alike) {
      EngineOptions options;
      options.prefix_cache = false;
      Engine engine(model, options);
      cold.push_back(run_engine(engine, {w}).at(0));
      EXPECT_EQ(engine.stats().kv_blocks_cached + engine.stats().prefix_hit_tokens, 0);
    }

    struct Setting {
      const char* name;
      int32_t chunk, block_size;
      int64_t tokens;  ///< how many tokens the cache holds; 0: all
    };
    for (const Setting& setting : {Setting{"roomy", 256, 4, 0}, Setting{"small chunks, odd blocks", 7, 3, 0},
                                   Setting{"a tight cache", 32, 2, 80}}) {
      SCOPED_TRACE(setting.name);
      EngineOptions options;
      options.prefill_chunk = setting.chunk;
      options.block_size = setting.block_size;
      options.max_batch_size = 8;
      if (setting.tokens > 0) options.kv_cache_bytes = bytes_for(model.config(), setting.tokens, 8 + setting.chunk);
      Engine engine(model, options);
      // Three rounds with a new request every other step. In each round copies of some requests are aborted while they
      // run.
      for (int round = 0; round < 3; ++round) {
        SCOPED_TRACE(concat("round ", round));
        std::map<uint64_t, Generated> results;
        const uint64_t twins = 100;
        for (size_t i = 0, step = 0; i < alike.size() || engine.stats().running + engine.stats().waiting > 0; ++step) {
          ASSERT_LT(step, 10000u);
          for (; i < alike.size() && (setting.tokens > 0 || 2 * i <= step); ++i) {
            engine.submit(i, alike[i].prompt, alike[i].params);
            if (i % 3 == 0) engine.submit(twins + i, alike[i].prompt, alike[i].params);
          }
          for (size_t j = 0; j < i; j += 3)
            if (step >= 2 * j + 4) engine.abort(twins + j);
          std::vector<RequestEvent> events;
          engine.step(events);
          collect(events, results);
        }
        for (size_t i = 0; i < alike.size(); ++i) {
          SCOPED_TRACE(concat("request ", i));
          expect_same_bits(results.at(i), cold[i]);
        }
        EXPECT_EQ(engine.stats().kv_blocks_used, 0);
      }
      EXPECT_GT(engine.stats().prefix_hit_tokens, setting.tokens > 0 ? 100 : 500);
      EXPECT_EQ(engine.stats().preemptions > 0, setting.tokens > 0);
    }
  }
}

/// When the weights change, prefixes that were computed with the old ones are not used any more.
TEST_P(ExactnessCase, NewWeightsMeetNoOldKeys) {
  for (const TestDevice& device : test_devices(DType::float32)) {
    Model model(config_for(GetParam()), device.make(DType::float32));
    init_with_biases(model, 17);
    const Wanted w = alike_requests(model.config(), model)[0];
    Engine warm(model, {});
    run_engine(warm, {w});
    run_engine(warm, {w});
    EXPECT_EQ(warm.stats().prefix_hit_tokens, 40) << "five chunks of 45 tokens";
    init_with_biases(model, 18);
    Engine cold(model, {});
    expect_same_bits(run_engine(warm, {w}).at(0), run_engine(cold, {w}).at(0));
  }
}

/// Blocks are not cleared when another request gets them: what a failed request left there must have no effect.
TEST_P(ExactnessCase, KeysLeftByABrokenRequestReachNobody) {
  for (const TestDevice& device : test_devices())
    for (const DType dtype : device.dtypes) {
      SCOPED_TRACE(concat(device.name, " ", dtype_name(dtype)));
      Model model(config_for(GetParam()), device.make(dtype));
      init_with_biases(model, 17);
      const int32_t broken = 100;
      std::vector<float> embedding(static_cast<size_t>(model.parameters().list()[0].count()));
      model.get(0, embedding.data());
      for (size_t j = 0; j < 48; ++j) embedding[broken * 48 + j] = std::numeric_limits<float>::quiet_NaN();
      model.set(0, embedding.data());
      Wanted bad, good;
      bad.prompt.assign(100, broken);
      bad.params.router_threshold = 0;  // makes all tokens run deep, except those whose score is NaN
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
        Case{"token_shared", 6, 3, Sharing::cycle, KvCachePolicy::shared, RouterType::token_choice, true},
        Case{"expert_gates_update", 8, 3, Sharing::middle_cycle, KvCachePolicy::recursion_wise,
             RouterType::expert_choice, false, false, false, true},
        Case{"token_gates_update", 8, 3, Sharing::middle_cycle, KvCachePolicy::recursion_wise, RouterType::token_choice,
             false, false, false, true},
        Case{"expert_by_threshold", 8, 3, Sharing::middle_cycle, KvCachePolicy::recursion_wise,
             RouterType::expert_choice, false, false, false, false, true},
        Case{"expert_hybrid_by_threshold", 8, 3, Sharing::middle_cycle, KvCachePolicy::hybrid,
             RouterType::expert_choice, false, false, false, false, true},
        Case{"vanilla_bias_norm", 3, 1, Sharing::middle_cycle, KvCachePolicy::recursion_wise, RouterType::none, false,
             false, true},
        Case{"expert_shared_bias_norm", 6, 3, Sharing::cycle, KvCachePolicy::shared, RouterType::expert_choice, false,
             false, true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
