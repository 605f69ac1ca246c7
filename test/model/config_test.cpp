// Tests of ModelConfig: layer maps and parameter counts against docs/model.md sections 1 and 2, and every rule's
// message.
#include "model/config.h"

#include <gtest/gtest.h>

#include "model/parameters.h"

namespace mor::test {
namespace {

ModelConfig base(int32_t layers, int32_t n, Sharing sharing) {
  ModelConfig c;
  c.vocab_size = 64;
  c.hidden_size = 16;
  c.intermediate_size = 32;
  c.num_hidden_layers = layers;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 4;
  c.max_position_embeddings = 32;
  c.num_recursions = n;
  c.sharing = sharing;
  return c;
}

std::vector<int32_t> layer_map(const ModelConfig& c) {
  std::vector<int32_t> map;
  for (int32_t l = 0; l < c.num_hidden_layers; ++l) map.push_back(c.unique_layer(l));
  return map;
}

TEST(Config, LayerMapsOfEverySharingStrategy) {
  EXPECT_EQ(layer_map(base(9, 3, Sharing::cycle)), (std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(layer_map(base(9, 3, Sharing::sequence)), (std::vector<int32_t>{0, 0, 0, 1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(layer_map(base(11, 3, Sharing::middle_cycle)), (std::vector<int32_t>{0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4}));
  EXPECT_EQ(layer_map(base(11, 3, Sharing::middle_sequence)), (std::vector<int32_t>{0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4}));
  EXPECT_EQ(layer_map(base(3, 1, Sharing::middle_cycle)), (std::vector<int32_t>{0, 1, 2}));
}

struct Preset {
  int32_t layers, hidden, heads, kv_heads, ffn;
  int64_t total;
};

TEST(Config, VanillaParameterCounts) {
  for (const Preset& p : {Preset{30, 576, 9, 3, 1536, 134515008}, Preset{32, 960, 15, 5, 2560, 361821120},
                          Preset{26, 1536, 24, 8, 4096, 729890304}, Preset{24, 2048, 32, 32, 8192, 1711376384}}) {
    ModelConfig c = base(p.layers, 1, Sharing::cycle);
    c.vocab_size = 49152;
    c.hidden_size = p.hidden;
    c.num_attention_heads = p.heads;
    c.num_key_value_heads = p.kv_heads;
    c.head_dim = 64;
    c.intermediate_size = p.ffn;
    EXPECT_EQ(Parameters(c, DType::bfloat16, DType::float32).count(), p.total);
  }
}

TEST(Config, CapacityIsAFractionOfTheFullSequence) {
  ModelConfig c = base(11, 3, Sharing::middle_cycle);
  c.router.type = RouterType::expert_choice;
  EXPECT_EQ(c.selected_count(1, 100), 100);
  EXPECT_EQ(c.selected_count(2, 100), 66);
  EXPECT_EQ(c.selected_count(3, 100), 33);
  EXPECT_EQ(c.selected_count(3, 2), 1);
  c.router.capacities = {1, 0.5, 0.28};
  EXPECT_EQ(c.selected_count(3, 100), 28);
  c.router.capacity_warmup_steps = 10;
  EXPECT_EQ(c.selected_count(3, 100, 0), 100);
  EXPECT_EQ(c.selected_count(2, 100, 5), 75);
  EXPECT_EQ(c.selected_count(3, 100, 10), 28);
}

void expect_message(ModelConfig c, const std::string& message) {
  try {
    c.validate();
    FAIL() << "no error; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INVALID_CONFIG);
    EXPECT_EQ(error.what(), message);
  }
}

TEST(Config, EveryRuleNamesTheKeyAndTheWayOut) {
  base(11, 3, Sharing::middle_cycle).validate();
  expect_message(
      base(10, 3, Sharing::middle_cycle),
      "num_hidden_layers 10 does not divide into num_recursions 3 under middle_cycle; nearest valid depths: 8 and 11");
  expect_message(
      base(1, 3, Sharing::cycle),
      "num_hidden_layers 1 does not divide into num_recursions 3 under cycle; nearest valid depths: 3 and 6");
  ModelConfig c = base(9, 3, Sharing::sequence);
  c.router.type = RouterType::expert_choice;
  expect_message(c, "a router works with sharing 'cycle' or 'middle_cycle', not 'sequence'");
  c = base(3, 1, Sharing::cycle);
  c.router.type = RouterType::token_choice;
  expect_message(c, "a router needs num_recursions > 1, got 1");
  c = base(9, 3, Sharing::cycle);
  c.kv_cache = KvCachePolicy::hybrid;
  expect_message(c, "kv_cache 'hybrid' needs an expert_choice router");
  c = base(9, 3, Sharing::cycle);
  c.num_key_value_heads = 3;
  expect_message(c, "num_attention_heads (4) must be a multiple of num_key_value_heads (3)");
  c = base(9, 3, Sharing::cycle);
  c.router.type = RouterType::expert_choice;
  c.router.capacities = {1, 0.5, 0.6};
  expect_message(c, "capacities must not rise: capacities[2] = 0.6 after 0.5");
  c.router.capacities = {1, 0.5};
  expect_message(c, "capacities has 2 entries, but num_recursions is 3");
  c = base(9, 3, Sharing::cycle);
  c.num_hidden_layers = INT32_MAX;
  expect_message(c, "num_hidden_layers must be at most 65536, got 2147483647");
  c = base(9, 3, Sharing::cycle);
  c.num_attention_heads = 1 << 30;
  expect_message(c,
                 "a layer of 1073741824 query heads, 2 key and value heads, head_dim 4 and intermediate_size 32 is too "
                 "wide: its rows would have 4294967312 columns, and may have 2147483647");
}

}  // namespace
}  // namespace mor::test
