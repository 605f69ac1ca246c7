// Trainer: one optimiser step. Must not know of files, threads or serving.
#include "train/trainer.h"

#include <chrono>
#include <cmath>

namespace mor {

namespace {

using Clock = std::chrono::steady_clock;

/// Forward and backward FLOPs of a model of the same shape and effective depth without skipping.
double vanilla_flops(const ModelConfig& c, double sequences, double length) {
  const double weights =
      static_cast<double>(c.hidden_size) * (c.qkv_size() + c.query_size() + 3.0 * c.intermediate_size);
  const double rows = sequences * length, pairs = sequences * length * (length + 1) / 2;
  return 3 * (c.num_hidden_layers * (2 * weights * rows + 4 * pairs * c.query_size()) +
              2.0 * c.vocab_size * c.hidden_size * rows);
}

void add(StepResult& total, const PassResult& part, double share) {
  total.lm_loss += share * part.lm_loss;
  total.auxiliary_loss += share * part.statistics.auxiliary_loss;
  total.z_loss += share * part.statistics.z_loss;
  total.balancing_loss += share * part.statistics.balancing_loss;
  total.loss += share * part.loss();
  total.flops += part.statistics.flops;
  const std::vector<int32_t>& active = part.statistics.active;
  total.depth_histogram.resize(std::max(total.depth_histogram.size(), active.size()));
  for (size_t r = 0; r < active.size(); ++r)
    total.depth_histogram[r] += active[r] - (r + 1 < active.size() ? active[r + 1] : 0);
  const auto mean = [&](double& to, double from) {
    if (from >= 0) to = (to < 0 ? 0 : to) + share * from;
  };
  mean(total.routing_accuracy, part.statistics.routing_accuracy);
  mean(total.dead_token_ratio, part.statistics.dead_token_ratio);
  mean(total.max_vio, part.statistics.max_vio);
  mean(total.load_entropy, part.statistics.load_entropy);
}

}  // namespace

void check_tokens(const ModelConfig& config, const int32_t* tokens, int64_t rows, int64_t row_length,
                  int64_t context_length) {
  MOR_CHECK(context_length <= config.max_position_embeddings, CONTEXT_OVERFLOW, "rows of ", context_length,
            " tokens do not fit the context of ", config.max_position_embeddings);
  for (int64_t i = 0; i < rows * row_length; ++i)
    MOR_CHECK(tokens[i] >= 0 && tokens[i] < config.vocab_size, TOKEN_OUT_OF_RANGE, "token ", tokens[i], " at row ",
              i / row_length, ", place ", i % row_length, " is outside the vocabulary of ", config.vocab_size);
}

Trainer::Trainer(Model& model, const TrainerOptions& options)
    : model_(model), options_(options), buffers_(model.ops()), activations_(model.ops()), tokens_(model.ops()) {
  options.schedule.validate();
  MOR_CHECK(options.learning_rate >= 0 && std::isfinite(options.learning_rate), INVALID_CONFIG,
            "learning_rate must not be negative, got ", options.learning_rate);
  Ops& ops = model.ops();
  const bool rounded = ops.compute_dtype() != ops.master_dtype();
  const Tensor weights = make_vector(model.weights(), ops.compute_dtype(), model.parameters().size(), "weights");
  master_ = rounded ? flat("master") : weights;
  if (rounded) ops.cast(weights, master_);
  gradient_ = flat("gradient");
  exp_avg_ = flat("exp_avg");
  exp_avg_sq_ = flat("exp_avg_sq");
  norm_ = buffers_.vector(ops.master_dtype(), 1, "gradient norm");
  for (const Tensor& t : {gradient_, exp_avg_, exp_avg_sq_}) zero(ops, t);
  gradients_ = model.parameters().views(gradient_.data, ops.master_dtype());
  segments_ = model.parameters().segments(static_cast<float>(options.weight_decay));
  if (rounded) add_state("master.", master_);
  add_state("exp_avg.", exp_avg_);
  add_state("exp_avg_sq.", exp_avg_sq_);
}

Trainer::~Trainer() = default;

Tensor Trainer::flat(const char* name) {
  return buffers_.vector(model_.ops().master_dtype(), model_.parameters().size(), name);
}

void Trainer::add_state(const std::string& prefix, const Tensor& buffer) {
  for (const Parameter& p : model_.parameters().list()) {
    State s;
    s.name = prefix + p.name;
    s.vector = p.vector;
    s.tensor = make_tensor(static_cast<char*>(buffer.data) + p.offset * static_cast<int64_t>(dtype_size(buffer.dtype)),
                           buffer.dtype, p.rows, p.columns, p.name.c_str());
    state_.push_back(s);
  }
}

Batch Trainer::upload_batch(const int32_t* rows, int32_t sequences, int32_t length) {
  const int32_t count = sequences * length;
  std::vector<int32_t> host(static_cast<size_t>(2 * count));
  for (int32_t s = 0; s < sequences; ++s)
    for (int32_t t = 0; t < length; ++t) {
      host[static_cast<size_t>(s * length + t)] = rows[s * (length + 1) + t];
      host[static_cast<size_t>(count + s * length + t)] = rows[s * (length + 1) + t + 1];
    }
  tokens_.reset();
  int32_t* device = allocate_integers(tokens_, 2 * count);
  model_.ops().copy_to_device(device, host.data(), host.size() * sizeof(int32_t));
  return {sequences, length, device, device + count};
}

StepResult Trainer::step(const int32_t* tokens, int32_t micro_batches, int32_t sequences, int32_t length) {
  MOR_CHECK(micro_batches >= 1 && sequences >= 1 && length >= 1, INVALID_ARGUMENT,
            "a step needs at least one token: got ", micro_batches, " micro-batches of ", sequences, " rows of ",
            length, " tokens");
  const ModelConfig& config = model_.config();
  check_tokens(config, tokens, static_cast<int64_t>(micro_batches) * sequences, length + 1, length);
  const Clock::time_point begin = Clock::now();
  Ops& ops = model_.ops();
  zero(ops, gradient_);
  StepResult result;
  std::vector<double> load;
  for (int32_t m = 0; m < micro_batches; ++m) {
    const int64_t first = static_cast<int64_t>(m) * sequences * (length + 1);
    PassOptions options;
    options.step = steps_done_;
    options.recompute = options_.recompute;
    options.loss_scale = 1.0 / micro_batches;
    const PassResult part =
        training_pass(model_, activations_, gradients_, upload_batch(tokens + first, sequences, length), options);
    add(result, part, options.loss_scale);
    load.resize(std::max(load.size(), part.statistics.load.size()));
    for (size_t j = 0; j < part.statistics.load.size(); ++j) load[j] += part.statistics.load[j];
  }
  ops.global_norm(gradient_, norm_);
  result.gradient_norm = read_master(ops, norm_)[0];
  MOR_CHECK(std::isfinite(result.loss) && std::isfinite(result.gradient_norm), NON_FINITE, "step ", steps_done_ + 1,
            " was refused: loss ", result.loss, ", gradient norm ", result.gradient_norm,
            "; weights and optimiser state are as before. Lower the learning rate or look at the batch");

  AdamWParams params;
  result.learning_rate = options_.schedule.rate(options_.learning_rate, steps_done_);
  params.learning_rate = result.learning_rate;
  params.beta1 = options_.beta1;
  params.beta2 = options_.beta2;
  params.epsilon = options_.epsilon;
  params.gradient_clip = options_.gradient_clip;
  params.step = steps_done_ + 1;
  const Tensor weights = make_vector(model_.weights(), ops.compute_dtype(), model_.parameters().size(), "weights");
  model_.weights_changed();
  ops.adamw(master_, weights, gradient_, exp_avg_, exp_avg_sq_, norm_, segments_.data(),
            static_cast<int32_t>(segments_.size()), params);
  if (model_.balancing_bias()) update_balancing_bias(load);
  ops.synchronize();
  result.step = ++steps_done_;
  result.tokens = static_cast<int64_t>(micro_batches) * sequences * length;
  result.flops *= 3;
  result.vanilla_flops = vanilla_flops(config, static_cast<double>(micro_batches) * sequences, length);
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

StepResult Trainer::evaluate(const int32_t* tokens, int32_t sequences, int32_t length, Routing routing) {
  MOR_CHECK(sequences >= 1 && length >= 1, INVALID_ARGUMENT, "an evaluation needs at least one token: got ", sequences,
            " rows of ", length, " tokens");
  check_tokens(model_.config(), tokens, sequences, length + 1, length);
  const Clock::time_point begin = Clock::now();
  PassOptions options;
  options.routing = routing;
  StepResult result;
  add(result, evaluation_pass(model_, activations_, upload_batch(tokens, sequences, length), options), 1);
  result.tokens = static_cast<int64_t>(sequences) * length;
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

/// b_j += u sign(mean load - load_j), u = 0.001 (mor.md section 4).
void Trainer::update_balancing_bias(const std::vector<double>& load) {
  std::vector<double> bias = read_master(model_.ops(), model_.balancing_bias());
  double mean = 0;
  for (const double l : load) mean += l / static_cast<double>(load.size());
  for (size_t j = 0; j < bias.size(); ++j) bias[j] += 0.001 * ((mean > load[j]) - (mean < load[j]));
  upload(model_.ops(), bias.data(), model_.balancing_bias());
}

MemoryUse Trainer::memory() const {
  MemoryUse use;
  const size_t flat_bytes = static_cast<size_t>(gradient_.count()) * dtype_size(gradient_.dtype);
  use.parameters = model_.memory_bytes() + (master_.data == model_.weights() ? 0 : flat_bytes);
  use.gradients = flat_bytes;
  use.optimizer = 2 * flat_bytes;
  use.activations = activations_.capacity() + tokens_.capacity();
  return use;
}

}  // namespace mor
