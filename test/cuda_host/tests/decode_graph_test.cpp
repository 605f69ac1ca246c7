// Decoding by graphs gives, bit for bit, what the same device gives kernel by kernel, while sequences start and end and
// the numbers of rows and keys pass from one size of graph to the next.
#include "test/cuda_host/tests/decode_graph.h"

#include <set>

#include "test/engine/support.h"

namespace mor::test {
namespace {

struct Case {
  const char* name;
  Sharing sharing;
  int32_t layers, recursions;
  KvCachePolicy kv_cache;
  RouterType router;
};

ModelConfig config_for(const Case& c) {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = c.layers;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 300;
  config.initializer_range = 0.2;
  config.num_recursions = c.recursions;
  config.sharing = c.sharing;
  config.kv_cache = c.kv_cache;
  set_router(config, c.router);
  return config;
}

/// Short requests that arrive one after another, and one that gets more keys than the smallest graph has.
std::vector<Wanted> requests(const ModelConfig& config) {
  std::vector<Wanted> wanted = mixed_requests(config, 5, 6, 9);
  for (Wanted& w : wanted) w.params.max_tokens += 4;
  Wanted deep;
  deep.prompt = random_tokens(250, config.vocab_size, 8);
  deep.params.max_tokens = 14;
  deep.params.logprobs = true;
  wanted.push_back(deep);
  return wanted;
}

class DecodeGraphCase : public testing::TestWithParam<std::tuple<Case, DType>> {};

TEST_P(DecodeGraphCase, GivesTheBitsOfSingleLaunches) {
  const auto& [c, dtype] = GetParam();
  const ModelConfig config = config_for(c);
  const auto generate = [&](std::unique_ptr<Ops> device) {
    Model model(config, std::move(device));
    model.init(3);
    Engine engine(model, {});
    return run_engine(engine, requests(config), 2);
  };
  Replays replays;
  const std::map<uint64_t, Generated> eager = generate(std::make_unique<EagerOps>(0, dtype));
  const std::map<uint64_t, Generated> graphs = generate(std::make_unique<CountedOps>(replays, dtype));
  ASSERT_EQ(graphs.size(), eager.size());
  for (const auto& [request, generated] : graphs) {
    SCOPED_TRACE(concat("request ", request));
    EXPECT_EQ(generated.reason, FinishReason::length) << generated.message;
    expect_same_bits(generated, eager.at(request));
  }
  EXPECT_LT(static_cast<size_t>(replays.calls), replays.keys.size()) << "no graph was launched";
  std::set<uint64_t> rows, keys;
  bool mixed = false;
  for (const RecordingKey& key : replays.keys) {
    rows.insert(key[1]);
    mixed = mixed || size_of(key).size() > 4;
    if (key[2] != 0) keys.insert(key[2]);  // 0: the stage has no layers
  }
  EXPECT_GE(rows.size(), 3u);
  EXPECT_EQ(mixed, c.router == RouterType::expert_choice) << "rows of two recursions in one graph, each its own router";
  EXPECT_EQ(keys, (std::set<uint64_t>{256, 512}));
}

INSTANTIATE_TEST_SUITE_P(
    All, DecodeGraphCase,
    testing::Combine(
        testing::Values(Case{"vanilla", Sharing::cycle, 2, 1, KvCachePolicy::recursion_wise, RouterType::none},
                        Case{"expert_between_layers", Sharing::middle_cycle, 4, 2, KvCachePolicy::recursion_wise,
                             RouterType::expert_choice},
                        Case{"token_shared", Sharing::cycle, 2, 2, KvCachePolicy::shared, RouterType::token_choice}),
        testing::Values(DType::float32, DType::bfloat16)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + "_" + dtype_name(std::get<1>(info.param));
    });

}  // namespace
}  // namespace mor::test
