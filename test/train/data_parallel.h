// What tests of ranks that train one model together share: small models, rows for each rank, and a training by all of
// them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "test/distributed/thread_communicator.h"
#include "test/train/support.h"

namespace mor::test {

constexpr int32_t kRows = 2, kTokens = 8;

/// Of every kind that training knows; small, since the reference device trains most of them.
inline ModelConfig minimal(RouterType type, KvCachePolicy kv = KvCachePolicy::recursion_wise) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = 5;
  if (type == RouterType::token_choice) c.router.z_loss_coefficient = 0.001;
  return routed(c, type, kv);
}

/// Rows for each rank: `micro[rank]` micro-batches of kRows rows. Some targets do not count, fewer on each next rank,
/// and none on the last of several if `idle`.
struct Plan {
  std::vector<int32_t> micro;
  bool masked = false, idle = false;
};
struct Rows {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;
  std::vector<BatchShape> shapes;
  TokenRows view() const { return {tokens.data(), counts.empty() ? nullptr : counts.data(), shapes}; }

  /// Those of a rank's micro-batch of a step.
  void add(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank, int32_t micro) {
    std::vector<int32_t> more =
        random_tokens(kRows * (kTokens + 1), config.vocab_size,
                      1000 * step + 100 * static_cast<uint32_t>(rank) + static_cast<uint32_t>(micro));
    // Two equal tokens at the beginning have equal scores, between which rounding would choose.
    for (size_t first = 0; first < more.size(); first += kTokens + 1)
      if (more[first] == more[first + 1]) more[first + 1] = (more[first] + 1) % config.vocab_size;
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (!plan.masked) return;
    const bool none = plan.idle && rank + 1 == plan.micro.size();
    for (size_t i = 0; i < more.size(); ++i) counts.push_back(none || i % (rank + 2) == 0 ? 0 : 1);
  }
  /// All of a rank, each by itself.
  void add_all(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank) {
    for (int32_t m = 0; m < plan.micro[rank]; ++m) {
      add(plan, config, step, rank, m);
      shapes.push_back({kRows, kTokens});
    }
  }
};

inline Rows rows_of_rank(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank) {
  Rows rows;
  rows.add_all(plan, config, step, rank);
  return rows;
}

/// Whole tensors by name.
using Tensors = std::map<std::string, std::vector<double>>;

/// What training measured and left.
struct Trained {
  std::vector<StepResult> steps;
  Tensors weights, state;
};

/// Puts what a rank has of the state in its place, which must not be filled yet.
inline void add_state(const Trainer& trainer, Tensors& state) {
  std::map<std::string, int64_t> counts;
  for (const Parameter& p : trainer.model().parameters().list())
    for (const char* prefix : {"master.", "exp_avg.", "exp_avg_sq."}) counts[prefix + p.name] = p.count();
  for (const NamedTensor& part : trainer.state()) {
    std::vector<double>& whole = state[part.name];
    whole.resize(static_cast<size_t>(counts.at(part.name)), std::numeric_limits<double>::quiet_NaN());
    const std::vector<double> values = read_master(trainer.model().ops(), part.tensor);
    ASSERT_LE(part.begin + static_cast<int64_t>(values.size()), static_cast<int64_t>(whole.size())) << part.name;
    for (size_t i = 0; i < values.size(); ++i) {
      double& place = whole[static_cast<size_t>(part.begin) + i];
      EXPECT_TRUE(std::isnan(place)) << part.name << "[" << static_cast<size_t>(part.begin) + i << "] is there twice";
      place = values[i];
    }
  }
}

inline void restore_state(Trainer& trainer, const Tensors& state, int64_t steps_done) {
  for (const NamedTensor& part : trainer.state())
    upload(trainer.model().ops(), state.at(part.name).data() + part.begin, part.tensor);
  trainer.set_steps_done(steps_done);
}

inline void add_weights(const Model& model, Tensors& weights) {
  for (const NamedTensor& t : model.checkpoint_tensors()) weights[t.name] = read_master(model.ops(), t.tensor);
}

inline void restore_weights(Model& model, const Tensors& weights) {
  const std::vector<Parameter>& list = model.parameters().list();
  for (const NamedTensor& t : model.checkpoint_tensors()) upload(model.ops(), weights.at(t.name).data(), t.tensor);
  ASSERT_EQ(weights.size(), list.size());
  model.weights_changed();
}

/// A run to go on with.
struct Start {
  const Trained* from = nullptr;
  uint32_t steps = 0;
};
inline void begin(Model& model, const Start& start) {
  model.init(1);
  if (start.from != nullptr) restore_weights(model, start.from->weights);
}

inline void expect_equal(const StepResult& a, const StepResult& b) {
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.lm_loss, b.lm_loss);
  EXPECT_EQ(a.distillation_loss, b.distillation_loss);
  EXPECT_EQ(a.auxiliary_loss, b.auxiliary_loss);
  EXPECT_EQ(a.z_loss, b.z_loss);
  EXPECT_EQ(a.balancing_loss, b.balancing_loss);
  EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  EXPECT_EQ(a.learning_rate, b.learning_rate);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.recursions, b.recursions);
  EXPECT_EQ(a.flops, b.flops);
  EXPECT_EQ(a.vanilla_flops, b.vanilla_flops);
  EXPECT_EQ(a.depth_histogram, b.depth_histogram);
  EXPECT_EQ(a.selected_shares, b.selected_shares);
  EXPECT_EQ(a.thresholds, b.thresholds);
  EXPECT_EQ(a.routing_accuracy, b.routing_accuracy);
  EXPECT_EQ(a.dead_token_ratio, b.dead_token_ratio);
  EXPECT_EQ(a.max_vio, b.max_vio);
  EXPECT_EQ(a.load_entropy, b.load_entropy);
}

inline void expect_equal(const Trained& a, const Trained& b) {
  for (size_t t = 0; t < a.steps.size(); ++t) expect_equal(a.steps[t], b.steps[t]);
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.state, b.state);
}

/// The times of a step of several ranks, which all of them get.
inline void expect_times(const StepResult& step, const StepResult& of_rank_0, size_t ranks) {
  EXPECT_GE(step.communication_seconds, 0);
  EXPECT_EQ(step.communication_seconds, of_rank_0.communication_seconds);
  EXPECT_GT(step.slowest_rank_seconds, 0);
  EXPECT_EQ(step.slowest_rank_seconds, of_rank_0.slowest_rank_seconds);
  EXPECT_GE(step.slowest_rank, 0);
  EXPECT_LT(step.slowest_rank, static_cast<int32_t>(ranks));
  EXPECT_EQ(step.slowest_rank, of_rank_0.slowest_rank);
}

/// Every rank must measure the same and leave the same weights.
inline Trained train_ranks(const ModelConfig& config, MakeOps make, TrainerOptions options, const Plan& plan,
                           uint32_t steps, Start start = {}) {
  const auto ranks = plan.micro.size();
  options.bucket_size = 64 * static_cast<int64_t>(ranks);
  std::vector<Trained> trained(ranks);
  std::mutex mutex;
  Tensors state;
  run_ranks(static_cast<int32_t>(ranks), [&](ThreadCommunicator& communicator) {
    TrainerOptions own = options;
    own.communicator = &communicator;
    const auto rank = static_cast<size_t>(communicator.rank());
    Model model(config, make());
    begin(model, start);
    Trainer trainer(model, own);
    if (start.from != nullptr) restore_state(trainer, start.from->state, start.steps);
    for (uint32_t t = start.steps; t < start.steps + steps; ++t)
      trained[rank].steps.push_back(trainer.step(rows_of_rank(plan, config, t, rank).view()));
    add_weights(model, trained[rank].weights);
    const std::lock_guard lock(mutex);
    add_state(trainer, state);
  });
  for (const Trained& other : trained) {
    EXPECT_EQ(other.weights, trained[0].weights);
    for (uint32_t t = 0; t < steps; ++t) {
      expect_equal(other.steps[t], trained[0].steps[t]);
      expect_times(other.steps[t], trained[0].steps[t], ranks);
    }
  }
  for (const auto& [name, values] : state)
    EXPECT_EQ(std::count_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }), 0) << name;
  trained[0].state = state;
  return trained[0];
}

/// Freezes an embedding, and one projection of three that one product computes; others have rates of their own.
inline TrainerOptions with_groups() {
  TrainerOptions options;
  options.parameters.resize(3);
  options.parameters[0] = {"model.embed_tokens.weight"};
  options.parameters[1] = {"model.layers.1.self_attn.k_proj.weight"};
  options.parameters[0].frozen = options.parameters[1].frozen = true;
  options.parameters[2] = {"model.layers.1.mlp.down_proj.weight", 3.0f, 0.5f};
  return options;
}

}  // namespace mor::test
