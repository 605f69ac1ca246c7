// The table of a model's tensors: which there are, in which order, how each one is trained, and where each one lies.
#include "model/parameters.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/rng.h"
#include "test/model/support.h"

namespace mor::test {
namespace {

std::vector<std::string> names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Parameter& p : parameter_rows(config, DType::bfloat16, DType::float32)) names.push_back(p.name);
  return names;
}

std::vector<std::string> of_layers(int32_t layers) {
  std::vector<std::string> names = {"model.embed_tokens.weight"};
  for (int32_t u = 0; u < layers; ++u)
    for (const char* name :
         {"input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
          "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      names.push_back(concat("model.layers.", u, ".", name, ".weight"));
  names.emplace_back("model.norm.weight");
  return names;
}

std::vector<std::string> with(std::vector<std::string> names, const std::vector<std::string>& more) {
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

ModelConfig routed(RouterType type) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = 8;
  c.num_recursions = 3;
  c.router.type = type;
  if (type == RouterType::token_choice) c.router.activation = Activation::softmax;
  return c;
}

TEST(Parameters, NamesOfEveryKindOfModelInTheOrderOfCheckpoints) {
  EXPECT_EQ(names(tiny_config()), of_layers(3));
  ModelConfig untied = tiny_config();
  untied.tie_word_embeddings = false;
  EXPECT_EQ(names(untied), with(of_layers(3), {"lm_head.weight"}));
  EXPECT_EQ(names(routed(RouterType::none)), of_layers(4));

  ModelConfig qwen = tiny_config();
  qwen.qkv_bias = qwen.qk_norm = true;
  std::vector<std::string> of_qwen = of_layers(3);
  for (int32_t u = 2; u >= 0; --u) {
    const std::string attention = concat("model.layers.", u, ".self_attn.");
    const auto o_proj = std::find(of_qwen.begin(), of_qwen.end(), attention + "o_proj.weight");
    of_qwen.insert(o_proj, {attention + "q_proj.bias", attention + "k_proj.bias", attention + "v_proj.bias",
                            attention + "q_norm.weight", attention + "k_norm.weight"});
  }
  EXPECT_EQ(names(qwen), of_qwen);

  ModelConfig expert = routed(RouterType::expert_choice);
  EXPECT_EQ(names(expert),
            with(of_layers(4), {"model.routers.0.weight", "model.routers.1.weight", "model.routers.2.weight"}));
  expert.router.selects_by_threshold = true;
  EXPECT_EQ(names(expert), with(of_layers(4), {"model.routers.0.weight", "model.routers.1.weight",
                                               "model.routers.2.weight", "model.router.thresholds"}));
  expert.router.selects_by_threshold = false;
  expert.num_recursions = 2;
  expert.router.mlp = expert.router.auxiliary_router = true;
  EXPECT_EQ(names(expert),
            with(of_layers(5), {"model.routers.0.fc1.weight", "model.routers.0.fc2.weight",
                                "model.routers.1.fc1.weight", "model.routers.1.fc2.weight",
                                "model.auxiliary_routers.0.fc1.weight", "model.auxiliary_routers.0.fc2.weight",
                                "model.auxiliary_routers.1.fc1.weight", "model.auxiliary_routers.1.fc2.weight"}));

  ModelConfig token = routed(RouterType::token_choice);
  EXPECT_EQ(names(token), with(of_layers(4), {"model.router.weight"}));
  token.router.loss_free_balancing = true;
  EXPECT_EQ(names(token), with(of_layers(4), {"model.router.weight", "model.router.balancing_bias"}));
}

const Parameter& named(const std::vector<Parameter>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Parameter& p) { return p.name == name; });
  if (found == list.end()) throw std::runtime_error("no " + name);
  return *found;
}

TEST(Parameters, RoleDecidesInitialiserAndDecay) {
  ModelConfig config = routed(RouterType::token_choice);
  config.router.loss_free_balancing = true;
  config.tie_word_embeddings = false;
  config.qkv_bias = config.qk_norm = true;
  struct Expected {
    const char* name;
    ParameterRole role;
    int32_t layer;
    std::vector<int64_t> shape;
    Initializer initializer;
    bool decays;
  };
  const Expected all[] = {
      {"model.embed_tokens.weight", ParameterRole::embedding, -1, {11, 8}, Initializer::normal, true},
      {"model.layers.0.input_layernorm.weight", ParameterRole::norm, 0, {8}, Initializer::ones, false},
      {"model.layers.1.self_attn.q_proj.weight", ParameterRole::projection, 1, {16, 8}, Initializer::normal, true},
      {"model.layers.1.self_attn.v_proj.weight", ParameterRole::projection, 1, {8, 8}, Initializer::normal, true},
      {"model.layers.2.self_attn.q_proj.bias", ParameterRole::bias, 2, {16}, Initializer::zeros, false},
      {"model.layers.2.self_attn.v_proj.bias", ParameterRole::bias, 2, {8}, Initializer::zeros, false},
      {"model.layers.2.self_attn.k_norm.weight", ParameterRole::norm, 2, {4}, Initializer::ones, false},
      {"model.layers.3.mlp.down_proj.weight", ParameterRole::projection, 3, {8, 12}, Initializer::normal, true},
      {"model.norm.weight", ParameterRole::norm, -1, {8}, Initializer::ones, false},
      {"lm_head.weight", ParameterRole::projection, -1, {11, 8}, Initializer::normal, true},
      {"model.router.weight", ParameterRole::router, -1, {3, 8}, Initializer::normal, true},
      {"model.router.balancing_bias", ParameterRole::bias, -1, {3}, Initializer::zeros, false},
  };
  const std::vector<Parameter> list = parameter_rows(config, DType::bfloat16, DType::float32);
  for (const Expected& e : all) {
    const Parameter& p = named(list, e.name);
    EXPECT_EQ(p.role, e.role) << e.name;
    EXPECT_EQ(p.layer, e.layer) << e.name;
    EXPECT_EQ(p.shape, e.shape) << e.name;
    EXPECT_EQ(p.initializer, e.initializer) << e.name;
    EXPECT_EQ(p.decays, e.decays) << e.name;
    const bool bias = p.name == "model.router.balancing_bias";
    EXPECT_EQ(p.trained, !bias) << e.name;
    EXPECT_EQ(p.storage, bias ? DType::float32 : DType::bfloat16) << e.name;
    EXPECT_EQ(p.learning_rate_scale, 1) << e.name;
  }
  config = routed(RouterType::expert_choice);
  config.router.auxiliary_router = config.router.selects_by_threshold = true;
  const std::vector<Parameter> expert = parameter_rows(config, DType::bfloat16, DType::float32);
  const Parameter& thresholds = named(expert, "model.router.thresholds");
  EXPECT_EQ(thresholds.shape, std::vector<int64_t>{3});
  EXPECT_EQ(thresholds.initializer, Initializer::zeros);
  EXPECT_EQ(thresholds.storage, DType::float32);
  EXPECT_FALSE(thresholds.trained);
  EXPECT_EQ(named(expert, "model.routers.2.weight").learning_rate_scale, 1);
  EXPECT_EQ(named(expert, "model.auxiliary_routers.2.weight").learning_rate_scale, 10);
}

/// A bfloat16 model whose routers are float32.
Parameters mixed(const ModelConfig& config) {
  std::vector<Parameter> rows = parameter_rows(config, DType::bfloat16, DType::float32);
  for (Parameter& p : rows)
    if (p.role == ParameterRole::router || p.role == ParameterRole::norm) p.storage = DType::float32;
  return Parameters(config, std::move(rows));
}

TEST(Parameters, OfOneTypeLieAtTheSamePlacesInWeightsAndFlatBuffers) {
  const ModelConfig config = routed(RouterType::expert_choice);
  for (const DType dtype : {DType::bfloat16, DType::float32}) {
    const Parameters parameters(config, dtype, DType::float32);
    const auto size = static_cast<int64_t>(dtype_size(dtype));
    int64_t end = 0;
    for (const Parameter& p : parameters.list()) {
      EXPECT_EQ(p.offset, p.element * size) << p.name;
      EXPECT_EQ(p.element, p.fused ? end : (end + 63) / 64 * 64) << p.name;
      end = p.element + p.count();
    }
    EXPECT_EQ(parameters.size(), end);
    EXPECT_EQ(parameters.are_masters(DType::float32), dtype == DType::float32);
  }
}

TEST(Parameters, OfSeveralTypesAreAlignedAndDoNotOverlap) {
  ModelConfig config = routed(RouterType::token_choice);
  config.router.loss_free_balancing = true;
  config.tie_word_embeddings = false;
  const Parameters parameters = mixed(config);
  int64_t end = 0, elements = 0, trained = 0;
  for (const Parameter& p : parameters.list()) {
    const auto size = static_cast<int64_t>(dtype_size(p.storage));
    EXPECT_GE(p.offset, end) << p.name;
    if (p.fused) {
      EXPECT_EQ(p.offset, end) << p.name;
    } else {
      EXPECT_EQ(p.offset % (64 * size), 0) << p.name;
    }
    end = p.offset + p.bytes();
    EXPECT_EQ(p.bytes(), p.count() * size) << p.name;
    if (!p.trained) continue;
    EXPECT_GE(p.element, elements) << p.name;
    elements = p.element + p.count();
    trained += p.count();
  }
  EXPECT_GE(static_cast<int64_t>(parameters.bytes()), end);
  EXPECT_LT(static_cast<int64_t>(parameters.bytes()), end + 64);
  EXPECT_EQ(parameters.size(), elements);
  EXPECT_EQ(parameters.count(), trained);
  EXPECT_FALSE(parameters.are_masters(DType::float32));
}

TEST(Parameters, ViewsSpanTheirRows) {
  ModelConfig config = routed(RouterType::token_choice);
  config.router.loss_free_balancing = true;
  config.qkv_bias = config.qk_norm = true;
  const Parameters parameters = mixed(config);
  std::vector<uint8_t> buffer(parameters.bytes());
  std::vector<float> flat_buffer(static_cast<size_t>(parameters.size()));
  const Tensor flat = make_vector(flat_buffer.data(), DType::float32, parameters.size(), "flat");
  const ModelTensors weights = parameters.weights(buffer.data()), gradients = parameters.gradients(flat);
  const auto expect_view = [&](const std::string& first, int64_t rows, const Tensor& weight, const Tensor& gradient) {
    SCOPED_TRACE(first);
    const Parameter& p = named(parameters.list(), first);
    EXPECT_EQ(weight.data, buffer.data() + p.offset);
    EXPECT_EQ(weight.dtype, p.storage);
    EXPECT_EQ(gradient.data, flat_buffer.data() + p.element);
    EXPECT_EQ(gradient.dtype, DType::float32);
    for (const Tensor& t : {weight, gradient}) {
      EXPECT_EQ(t.rank, static_cast<int32_t>(p.shape.size()));
      EXPECT_EQ(t.rows(), rows);
      EXPECT_EQ(t.columns(), p.shape.size() == 1 ? 1 : p.shape[1]);
      EXPECT_TRUE(t.contiguous());
    }
  };
  expect_view("model.embed_tokens.weight", 11, weights.lm_head, gradients.lm_head);
  const LayerTensors &layer = weights.layers.at(1), &d_layer = gradients.layers.at(1);
  expect_view("model.layers.1.input_layernorm.weight", 8, layer.input_layernorm, d_layer.input_layernorm);
  expect_view("model.layers.1.self_attn.q_proj.weight", 16 + 8 + 8, layer.qkv.weight, d_layer.qkv.weight);
  expect_view("model.layers.1.self_attn.q_proj.bias", 16 + 8 + 8, layer.qkv.bias, d_layer.qkv.bias);
  expect_view("model.layers.1.self_attn.q_norm.weight", 4, layer.qkv.q_norm, d_layer.qkv.q_norm);
  expect_view("model.layers.1.self_attn.k_norm.weight", 4, layer.qkv.k_norm, d_layer.qkv.k_norm);
  expect_view("model.layers.1.self_attn.o_proj.weight", 8, layer.o_proj, d_layer.o_proj);
  expect_view("model.layers.1.mlp.gate_proj.weight", 24, layer.gate_up, d_layer.gate_up);
  expect_view("model.layers.1.mlp.down_proj.weight", 8, layer.down_proj, d_layer.down_proj);
  expect_view("model.norm.weight", 8, weights.norm, gradients.norm);
  expect_view("model.router.weight", 3, weights.routers.at(0).weight, gradients.routers.at(0).weight);
  const Parameter& bias = named(parameters.list(), "model.router.balancing_bias");
  EXPECT_EQ(weights.balancing_bias.data, buffer.data() + bias.offset);
  EXPECT_EQ(weights.balancing_bias.dtype, DType::float32);
  EXPECT_FALSE(gradients.balancing_bias);
}

TEST(Parameters, SegmentsAreWhatTheOptimiserTrains) {
  ModelConfig config = routed(RouterType::token_choice);
  config.router.loss_free_balancing = true;
  const Parameters parameters = mixed(config);
  const std::vector<ParameterSegment> segments = parameters.segments(0.25f);
  ASSERT_EQ(segments.size(), parameters.list().size() - 1);
  for (size_t i = 0; i < segments.size(); ++i) {
    const Parameter& p = parameters.list()[i];
    EXPECT_EQ(segments[i].offset, p.element);
    EXPECT_EQ(segments[i].count, p.count());
    EXPECT_EQ(segments[i].weight_offset, p.offset);
    EXPECT_EQ(segments[i].storage, p.storage);
    EXPECT_EQ(segments[i].weight_decay, p.role == ParameterRole::norm ? 0 : 0.25f);
    EXPECT_EQ(segments[i].learning_rate_scale, 1);
  }
}

TEST(Parameters, OfOneViewHaveOneType) {
  std::vector<Parameter> rows = parameter_rows(tiny_config(), DType::bfloat16, DType::float32);
  rows[3].storage = DType::float32;
  try {
    const Parameters parameters(tiny_config(), rows);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INTERNAL);
    EXPECT_STREQ(error.what(),
                 "model.layers.0.self_attn.k_proj.weight is stored as float32, but the rows before it of the same view "
                 "as bfloat16");
  }
}

TEST(Parameters, ThatNoMemoryHoldsAreRefusedWithoutOverflow) {
  ModelConfig config = routed(RouterType::expert_choice);
  config.router.mlp = true;
  const auto refused = [](const ModelConfig& c) -> std::string {
    try {
      check_weights_fit(c, DType::bfloat16, size_t{1} << 20);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::OUT_OF_MEMORY) << error.what();
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(refused(config), "no error");
  config.vocab_size = 100000;
  EXPECT_EQ(refused(config), "the weights take 0.00160838 GB as bfloat16, and the device has 0.00104858 GB");
  config.hidden_size = INT32_MAX;  // the first layer of an MLP router has 2^63 elements
  EXPECT_EQ(refused(config),
            "the weights up to model.routers.0.fc1.weight take more than 9007199 GB, and no device has "
            "as much memory");
  config.vocab_size = INT32_MAX;
  EXPECT_EQ(refused(config),
            "the weights up to model.embed_tokens.weight take more than 9007199 GB, and no device has "
            "as much memory");
}

/// Weights of a seed, from the stream that each tensor has drawn from ever since: its index among the tensors of a
/// model without biases.
TEST(Parameters, InitialValuesOfASeedStayWhatTheyAre) {
  struct Stream {
    ModelConfig config;
    std::string name;
    uint64_t stream;
  };
  ModelConfig token = routed(RouterType::token_choice);
  token.router.loss_free_balancing = true;
  const ModelConfig expert = routed(RouterType::expert_choice);
  for (const Stream& s : {Stream{tiny_config(), "model.embed_tokens.weight", 0},
                          Stream{tiny_config(), "model.layers.0.self_attn.k_proj.weight", 3},
                          Stream{tiny_config(), "model.layers.2.mlp.down_proj.weight", 27},
                          Stream{token, "model.router.weight", 38}, Stream{expert, "model.routers.1.weight", 39}}) {
    SCOPED_TRACE(s.name);
    Model model(s.config, std::make_unique<RefOps<float>>());
    model.init(42);
    const std::vector<Parameter>& list = model.parameters().list();
    const Parameter& p = named(list, s.name);
    std::vector<float> values(static_cast<size_t>(p.count()));
    model.get(static_cast<size_t>(&p - list.data()), values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      const Philox4 bits = philox(42, s.stream, i / 2);
      float normals[2];
      normal_from_bits(bits.v[0], bits.v[1], &normals[0], &normals[1]);
      EXPECT_EQ(values[i], normals[i % 2] * 0.3f);
    }
  }
}

/// Tensors of more elements than a thread draws at a time, one of them of an odd number.
TEST(Parameters, InitialValuesDoNotDependOnTheNumberOfThreads) {
  ModelConfig config = tiny_config();
  config.vocab_size = 4099;
  config.hidden_size = 9;
  std::vector<float> alone;
  for (const int threads : {1, 2, 5, 0}) {
    Model model(config, std::make_unique<RefOps<float>>());
    model.init(7, threads);
    std::vector<float> all;
    for (size_t i = 0; i < model.parameters().list().size(); ++i) {
      std::vector<float> values(static_cast<size_t>(model.parameters().list()[i].count()));
      model.get(i, values.data());
      all.insert(all.end(), values.begin(), values.end());
    }
    if (threads == 1) alone = all;
    EXPECT_EQ(all, alone) << threads << " threads";
  }
  for (const size_t i : {size_t{0}, size_t{16383}, size_t{16384}, size_t{4099} * 9 - 1}) {
    const Philox4 bits = philox(7, 0, i / 2);
    float normals[2];
    normal_from_bits(bits.v[0], bits.v[1], &normals[0], &normals[1]);
    EXPECT_EQ(alone[i], normals[i % 2] * 0.3f) << i;
  }
}

TEST(Parameters, NormsBeginAtOneAndBiasesAtZero) {
  ModelConfig config = routed(RouterType::token_choice);
  config.router.loss_free_balancing = true;
  config.qkv_bias = config.qk_norm = true;
  Model model(config, std::make_unique<RefOps<float>>());
  model.init(1);
  for (size_t i = 0; i < model.parameters().list().size(); ++i) {
    const Parameter& p = model.parameters().list()[i];
    if (p.role != ParameterRole::norm && p.role != ParameterRole::bias) continue;
    std::vector<float> values(static_cast<size_t>(p.count()));
    model.get(i, values.data());
    EXPECT_EQ(values, std::vector<float>(values.size(), p.role == ParameterRole::norm ? 1.0f : 0.0f)) << p.name;
  }
}

}  // namespace
}  // namespace mor::test
