// Tests the outputs of an inference pass: chosen logits, log-probabilities and hidden states, of every kind of model.
#include <cmath>

#include "device/device.h"
#include "test/model/support.h"

namespace mor::test {
namespace {

constexpr int32_t kSequences = 2, kLength = 12, kRows = kSequences * kLength;

ModelConfig with_layers(int32_t layers) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = layers;
  return c;
}

ModelConfig recurring(RouterType type, Sharing sharing, KvCachePolicy kv = KvCachePolicy::recursion_wise) {
  ModelConfig c = with_layers(sharing == Sharing::cycle || sharing == Sharing::sequence ? 6 : 8);
  c.num_recursions = 3;
  c.sharing = sharing;
  c.kv_cache = kv;
  c.router.type = type;
  if (type == RouterType::token_choice) c.router.activation = Activation::softmax;
  c.router.alpha = type == RouterType::token_choice ? 1 : 0.5;
  return c;
}

std::vector<ModelConfig> every_kind() {
  return {with_layers(3),
          recurring(RouterType::none, Sharing::sequence),
          recurring(RouterType::none, Sharing::middle_cycle),
          recurring(RouterType::expert_choice, Sharing::cycle),
          recurring(RouterType::expert_choice, Sharing::middle_cycle, KvCachePolicy::hybrid),
          recurring(RouterType::token_choice, Sharing::cycle, KvCachePolicy::shared),
          recurring(RouterType::token_choice, Sharing::middle_cycle)};
}

struct Inference {
  Model model;
  Arena arena;
  DeviceBatch batch;
  PassOptions options;
  std::vector<uint8_t> depths = std::vector<uint8_t>(kRows);

  explicit Inference(const ModelConfig& config)
      : model(config, std::make_unique<RefOps<double>>()),
        arena(model.ops()),
        batch(model.ops(), random_tokens(kSequences * (kLength + 1), config.vocab_size, 8), kSequences) {
    model.init(3);
  }
  /// [layers][row * hidden + column]
  std::vector<std::vector<float>> hidden_states(const std::vector<int32_t>& layers) {
    const size_t size = static_cast<size_t>(kRows * model.config().hidden_size);
    std::vector<float> values(layers.size() * size, NAN);
    InferenceOutputs outputs;
    outputs.depths = depths.data();
    outputs.layers = layers;
    outputs.hidden_states = values.data();
    inference_pass(model, arena, batch.get(), options, outputs);
    std::vector<std::vector<float>> result;
    for (auto at = values.begin(); at != values.end(); at += static_cast<long>(size))
      result.emplace_back(at, at + static_cast<long>(size));
    return result;
  }
  std::vector<std::vector<float>> every_hidden_state() {
    std::vector<int32_t> layers(static_cast<size_t>(model.config().num_hidden_layers) + 1);
    std::iota(layers.begin(), layers.end(), 0);
    return hidden_states(layers);
  }
};

std::vector<float> row_of(const std::vector<float>& states, int32_t row, int64_t width) {
  return {states.begin() + row * width, states.begin() + (row + 1) * width};
}

TEST(InferencePass, GivesChosenRowsOfTheFullLogitsAndLogProbabilitiesOfTargets) {
  for (const ModelConfig& config : every_kind())
    for (const Routing routing : {Routing::topk, Routing::threshold}) {
      Inference run(config);
      run.options.routing = routing;
      const FullLogits full = full_logits(run.model, run.arena, run.batch.get(), run.options);
      InferenceOutputs outputs;
      outputs.depths = run.depths.data();
      outputs.logits_rows = {kLength - 1, 3, kRows - 1};
      std::vector<float> logits(3 * static_cast<size_t>(config.vocab_size));
      outputs.logits = logits.data();
      outputs.target_rows = {0, 5, 5, kRows - 1};
      outputs.targets = {config.vocab_size - 1, 2, 7, 0};
      std::vector<float> logprobs(4);
      outputs.logprobs = logprobs.data();
      inference_pass(run.model, run.arena, run.batch.get(), run.options, outputs);

      EXPECT_EQ(run.depths, full.depths);
      for (size_t i = 0; i < 3; ++i)
        EXPECT_EQ(row_of(logits, static_cast<int32_t>(i), config.vocab_size),
                  row_of(full.logits, outputs.logits_rows[i], config.vocab_size));
      for (size_t i = 0; i < 4; ++i) {
        const std::vector<float> row = row_of(full.logits, outputs.target_rows[i], config.vocab_size);
        double sum = 0;
        for (const float logit : row) sum += std::exp(static_cast<double>(logit));
        EXPECT_NEAR(logprobs[i], row[static_cast<size_t>(outputs.targets[i])] - std::log(sum), 1e-6);
      }
    }
}

TEST(InferencePass, ReadsManyRowsInParts) {
  ModelConfig config = tiny_config();
  config.max_position_embeddings = 700;
  Model model(config, make_ops("cpu", DType::float32, 2));
  model.init(3);
  Arena arena(model.ops());
  const DeviceBatch batch(model.ops(), random_tokens(601, config.vocab_size, 8), 1);
  const FullLogits full = full_logits(model, arena, batch.get(), {});
  InferenceOutputs outputs;
  std::vector<uint8_t> depths(600);
  std::vector<float> logprobs(600);
  outputs.depths = depths.data();
  outputs.target_rows.resize(600);
  std::iota(outputs.target_rows.rbegin(), outputs.target_rows.rend(), 0);
  for (int32_t i = 0; i < 600; ++i) outputs.targets.push_back(i % config.vocab_size);
  outputs.logprobs = logprobs.data();
  inference_pass(model, arena, batch.get(), {}, outputs);
  for (int32_t i = 0; i < 600; ++i) {
    const std::vector<float> row = row_of(full.logits, 599 - i, config.vocab_size);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit));
    ASSERT_NEAR(logprobs[static_cast<size_t>(i)], row[static_cast<size_t>(i % config.vocab_size)] - std::log(sum),
                1e-5);
  }
}

TEST(InferencePass, HiddenStatesStartAsTheEmbeddingAndEndAsTheInputOfTheHead) {
  for (const ModelConfig& config : every_kind())
    for (const int32_t most : {0, 2}) {
      if (most > 0 && config.body_recursions() == 0) continue;
      Inference run(config);
      run.options.max_recursions = most;
      const std::vector<std::vector<float>> states = run.hidden_states({config.num_hidden_layers, 0});
      const FullLogits full = full_logits(run.model, run.arena, run.batch.get(), run.options);
      EXPECT_EQ(run.depths, full.depths);
      const int64_t d = config.hidden_size;
      std::vector<double> embedding(static_cast<size_t>(config.vocab_size * d));
      download(run.model.ops(), run.model.tensors().embed_tokens, embedding.data());
      const std::vector<int32_t> tokens = read_integers(run.model.ops(), run.batch.get().tokens, kRows);
      for (int32_t row = 0; row < kRows; ++row) {
        const std::vector<float> last = row_of(states[0], row, d), first = row_of(states[1], row, d);
        double squares = 0;
        for (const float x : last) squares += double{x} * x;
        const double scale = 1 / std::sqrt(squares / static_cast<double>(d) + config.rms_norm_eps);
        for (int64_t j = 0; j < d; ++j)
          EXPECT_FLOAT_EQ(first[static_cast<size_t>(j)],
                          static_cast<float>(embedding[static_cast<size_t>(tokens[static_cast<size_t>(row)] * d + j)]));
        for (int64_t v = 0; v < config.vocab_size; ++v) {  // norm weights are 1, and the head is the embedding
          double logit = 0;
          for (int64_t j = 0; j < d; ++j)
            logit += last[static_cast<size_t>(j)] * scale * embedding[static_cast<size_t>(v * d + j)];
          EXPECT_NEAR(full.logits[static_cast<size_t>(row * config.vocab_size + v)], logit, 1e-5);
        }
      }
    }
}

TEST(InferencePass, HiddenStatesOfAVanillaModelAreThoseThatShorterModelsEndWith) {
  Inference whole(with_layers(4));
  const std::vector<std::vector<float>> states = whole.every_hidden_state();
  for (int32_t layers = 1; layers < 4; ++layers) {
    Inference part(with_layers(layers));
    for (size_t i = 0; i < part.model.parameters().list().size(); ++i)
      for (size_t j = 0; j < whole.model.parameters().list().size(); ++j) {
        const Parameter& to = part.model.parameters().list()[i];
        if (whole.model.parameters().list()[j].name != to.name) continue;
        std::vector<float> values(static_cast<size_t>(to.count()));
        whole.model.get(j, values.data());
        part.model.set(i, values.data());
      }
    EXPECT_EQ(part.hidden_states({layers})[0], states[static_cast<size_t>(layers)]) << layers;
  }
}

TEST(InferencePass, HiddenStatesBetweenRecursionsAreThoseOfAPassThatStopsThere) {
  for (const RouterType type : {RouterType::none, RouterType::expert_choice}) {
    Inference run(recurring(type, Sharing::cycle));
    const std::vector<std::vector<float>> all = run.every_hidden_state();
    for (int32_t r = 1; r < 3; ++r) {
      run.options.max_recursions = r;
      const std::vector<std::vector<float>> stopped = run.every_hidden_state();
      for (size_t layer = 0; layer < all.size(); ++layer)
        EXPECT_EQ(stopped[layer], all[std::min(layer, static_cast<size_t>(2 * r))]) << layer;
    }
  }
}

TEST(InferencePass, ATokenKeepsItsHiddenStateInLayersThatItDoesNotRun) {
  for (const ModelConfig& config : every_kind()) {
    if (config.router.type == RouterType::none) continue;
    Inference run(config);
    const std::vector<std::vector<float>> states = run.every_hidden_state();
    const int64_t d = config.hidden_size;
    int32_t kept = 0;
    for (int32_t row = 0; row < kRows; ++row)
      for (int32_t l = 0; l < config.body_recursions() * config.body_layers(); ++l) {
        const size_t layer = static_cast<size_t>(config.layers_before() + l);
        const bool runs = l / config.body_layers() < run.depths[static_cast<size_t>(row)];
        kept += runs ? 0 : 1;
        EXPECT_EQ(row_of(states[layer], row, d) == row_of(states[layer + 1], row, d), !runs) << row << " " << layer;
      }
    EXPECT_GT(kept, 0);
  }
}

}  // namespace
}  // namespace mor::test
