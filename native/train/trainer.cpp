// Trainer: one optimiser step.
#include "train/trainer.h"

#include <chrono>
#include <cmath>

#include "model/host_values.h"
#include "ops/adamw_step.h"

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

/// Runs `allocate`. If it throws OUT_OF_MEMORY, the message is made to begin with `what`: what the memory was for.
template <class Allocate>
void allocate_for(const std::string& what, const Allocate& allocate) {
  try {
    allocate();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    MOR_FAIL(OUT_OF_MEMORY, what, ", but ", error.what());
  }
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
    : model_(model),
      options_(options),
      buffers_(model.ops()),
      inputs_(model.ops()),
      activations_(model.ops()),
      readback_(model.ops()) {
  Ops& ops = model.ops();
  const Parameters& parameters = model.parameters();
  const bool rounded = !parameters.are_masters(ops.master_dtype());
  const Optimized chosen = optimized(parameters, static_cast<float>(options.weight_decay), options.parameters);
  const std::vector<ParameterSegment>& segments = chosen.segments;
  const int32_t recursions = model.config().num_recursions;
  MOR_CHECK(options.depth.from >= 1 && options.depth.from <= recursions, INVALID_ARGUMENT,
            "the schedule of depth begins with ", options.depth.from, " recursions, but the model has ", recursions);
  segment_count_ = static_cast<int32_t>(segments.size());
  const size_t flat_bytes = static_cast<size_t>(parameters.size()) * dtype_size(ops.master_dtype());
  planned_.parameters = rounded ? flat_bytes : 0;
  planned_.gradients = flat_bytes;
  planned_.optimizer = 2 * flat_bytes;
  const auto allocate = [&](Arena& arena) {
    if (rounded) master_ = flat(arena, "master");
    gradient_ = flat(arena, "gradient");
    exp_avg_ = flat(arena, "exp_avg");
    exp_avg_sq_ = flat(arena, "exp_avg_sq");
    adamw_step_ = arena.array<AdamWStep>(1);
    segments_ = arena.array<ParameterSegment>(segment_count_);
  };
  const size_t bytes =
      count_memory(ops, [&](const Workspace& counting) { allocate(counting.activations); }).activations;
  allocate_for(concat("a trainer takes ", planned_.parameters, " bytes of master weights, ", planned_.gradients,
                      " of gradients and ", planned_.optimizer, " of optimizer state"),
               [&] { buffers_.reserve(bytes); });
  allocate(buffers_);

  if (!rounded) master_ = make_vector(model.weights(), ops.master_dtype(), parameters.size(), "master");
  for (const Parameter& p : parameters.list())
    if (rounded && p.trained) ops.cast(p.in_weights(model.weights()), p.in_flat(master_));
  for (const Tensor& t : {gradient_, exp_avg_, exp_avg_sq_}) zero(ops, t);
  ops.copy_to_device(segments_, segments.data(), segments.size() * sizeof(ParameterSegment));
  gradients_ = parameters.gradients(gradient_);
  for (const Parameter* p : chosen.frozen) frozen_.push_back(p->in_flat(gradient_));
  std::vector<Tensor> kept{exp_avg_, exp_avg_sq_};
  if (rounded) kept.insert(kept.begin(), master_);
  const std::vector<std::string> prefixes = state_prefixes(model);
  for (size_t i = 0; i < kept.size(); ++i)
    for (const Parameter& p : parameters.list())
      if (p.trained) state_.push_back({prefixes[i] + p.name, p.in_flat(kept[i])});
}

Tensor Trainer::flat(Arena& arena, const char* name) const {
  return arena.vector(model_.ops().master_dtype(), model_.parameters().size(), name);
}

std::vector<std::string> Trainer::state_prefixes(const Model& model) {
  if (model.parameters().are_masters(model.ops().master_dtype())) return {"exp_avg.", "exp_avg_sq."};
  return {"master.", "exp_avg.", "exp_avg_sq."};
}

RecordingKey Trainer::key_of(const Shape& shape, int32_t recursions) const {
  const ModelConfig& config = model_.config();
  RecordingKey key;
  for (const int32_t extent : {shape.micro_batches, shape.sequences, shape.length, recursions})
    key.push_back(static_cast<uint64_t>(extent));
  if (config.router.type == RouterType::expert_choice)
    for (int32_t r = 1; r <= config.body_recursions(); ++r)
      key.push_back(static_cast<uint64_t>(config.selected_count(r, shape.length, steps_done_)));
  return key;
}

void Trainer::reserve(const RecordingKey& key, const Shape& shape,
                      const std::function<void(const Workspace& workspace)>& work) {
  if (key == reserved_for_) return;
  reserved_for_.clear();
  const PassMemory need = count_memory(model_.ops(), work);
  const size_t inputs = shape.ids() * sizeof(int32_t);
  planned_.activations = inputs + need.activations + need.report;
  allocate_for(concat(shape.micro_batches, " x ", shape.sequences, " rows of ", shape.length, " tokens take ",
                      need.activations, " bytes of activations"),
               [&] {
                 inputs_.reserve(inputs);
                 readback_.arena().reserve(need.report);
                 activations_.reserve(need.activations);
               });
  planned_.activations = 0;
  reserved_for_ = key;
}

std::vector<Batch> Trainer::upload(const int32_t* tokens, const Shape& shape) {
  std::vector<int32_t> host;
  host.reserve(shape.ids());
  const int64_t count = static_cast<int64_t>(shape.sequences) * shape.length;
  for (int32_t m = 0; m < shape.micro_batches; ++m)
    for (const int32_t ahead : {0, 1})  // the tokens, then their targets
      for (int32_t s = 0; s < shape.sequences; ++s) {
        const int32_t* row = tokens + (static_cast<int64_t>(m) * shape.sequences + s) * (shape.length + 1) + ahead;
        host.insert(host.end(), row, row + shape.length);
      }
  inputs_.reset();
  int32_t* device = inputs_.array<int32_t>(static_cast<int64_t>(host.size()));
  model_.ops().copy_to_device(device, host.data(), host.size() * sizeof(int32_t));
  std::vector<Batch> batches;
  for (int32_t m = 0; m < shape.micro_batches; ++m, device += 2 * count)
    batches.push_back({shape.sequences, shape.length, device, device + count});
  return batches;
}

Trainer::StepReport Trainer::passes(const Workspace& workspace, const std::vector<Batch>& batches) const {
  PassOptions options;
  options.step = steps_done_;
  options.max_recursions = recursions();
  options.recompute = options_.recompute;
  options.loss_scale = 1.0 / static_cast<double>(batches.size());
  workspace.report.reset();
  StepReport report;
  report.norm = workspace.report.vector(workspace.ops.master_dtype(), 1, "gradient norm");
  for (const Batch& batch : batches)
    report.passes.push_back(training_pass(model_, workspace, gradients_, batch, options));
  return report;
}

StepResult Trainer::step(const int32_t* tokens, int32_t micro_batches, int32_t sequences, int32_t length) {
  MOR_CHECK(micro_batches >= 1 && sequences >= 1 && length >= 1, INVALID_ARGUMENT,
            "a step needs at least one token: got ", micro_batches, " micro-batches of ", sequences, " rows of ",
            length, " tokens");
  const ModelConfig& config = model_.config();
  check_tokens(config, tokens, static_cast<int64_t>(micro_batches) * sequences, length + 1, length);
  const Clock::time_point begin = Clock::now();
  Ops& ops = model_.ops();
  const Shape shape{micro_batches, sequences, length};
  RecordingKey key = key_of(shape, recursions());
  reserve(key, shape, [&](const Workspace& counting) {
    passes(counting, std::vector<Batch>(static_cast<size_t>(micro_batches), {sequences, length, nullptr, nullptr}));
  });
  // These arenas get other addresses when a larger batch comes. The buffers of the model and the trainer never move.
  for (const Arena* arena : {&inputs_, &activations_, &readback_.arena()})
    key.push_back(reinterpret_cast<uintptr_t>(arena->contents().data));

  const std::vector<Batch> batches = upload(tokens, shape);
  StepResult result;
  result.learning_rate = options_.schedule.rate(options_.learning_rate, steps_done_);
  const AdamWStep now = adamw_step(options_, result.learning_rate, steps_done_ + 1);
  ops.copy_to_device(adamw_step_, &now, sizeof now);
  const auto work = [&] {
    zero(ops, gradient_);
    report_ = passes(workspace(), batches);
    report_.bytes = readback_.arena().contents().bytes;
    for (const Tensor& gradient : frozen_) zero(ops, gradient);
    ops.global_norm(gradient_, report_.norm);
    for (const PassReport& pass : report_.passes) ops.reject_non_finite(pass.values, report_.norm);
    ops.adamw(master_, model_.weights(), gradient_, exp_avg_, exp_avg_sq_, report_.norm, segments_, segment_count_,
              options_, adamw_step_);
  };
  model_.context(activations_).may_interrupt();
  model_.weights_changed();
  if (waits_for_counts(config))
    work();
  else
    ops.replay(recording_, key, work);
  readback_.fetch(report_.bytes);

  std::vector<double> load;
  for (const PassReport& pass : report_.passes) {
    const PassResult part = read_report(config, pass, readback_);
    add(result, part, 1.0 / micro_batches);
    load.resize(std::max(load.size(), part.statistics.load.size()));
    for (size_t j = 0; j < part.statistics.load.size(); ++j) load[j] += part.statistics.load[j];
  }
  result.gradient_norm = readback_.values(report_.norm)[0];
  // adamw has read the same norm, which is NaN where a loss is not finite, and has changed nothing.
  MOR_CHECK(std::isfinite(result.gradient_norm), NON_FINITE, "step ", steps_done_ + 1, " was refused: loss ",
            result.loss, ", gradient norm ", result.gradient_norm,
            "; weights and optimiser state are as before. Lower the learning rate or look at the batch");
  if (model_.balancing_bias()) update_balancing_bias(load);
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
  const ModelConfig& config = model_.config();
  check_tokens(config, tokens, sequences, length + 1, length);
  const Clock::time_point begin = Clock::now();
  PassOptions options;
  options.routing = routing;
  options.step = steps_done_;
  const Shape shape{1, sequences, length};
  RecordingKey key = key_of(shape, config.num_recursions);
  key[0] = 0;  // micro-batches; 0, so that no key of a step is equal
  key.push_back(static_cast<uint64_t>(routing));
  reserve(key, shape, [&](const Workspace& counting) {
    evaluation_pass(model_, counting, {sequences, length, nullptr, nullptr}, options);
  });
  readback_.arena().reset();
  const PassReport report = evaluation_pass(model_, workspace(), upload(tokens, shape)[0], options);
  readback_.fetch(readback_.arena().contents().bytes);
  StepResult result;
  add(result, read_report(config, report, readback_), 1);
  result.tokens = static_cast<int64_t>(sequences) * length;
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

/// b_j += u sign(mean load - load_j), u = 0.001 (docs/model.md section 4).
void Trainer::update_balancing_bias(const std::vector<double>& load) {
  std::vector<double> bias = read_master(model_.ops(), model_.balancing_bias());
  double mean = 0;
  for (const double l : load) mean += l / static_cast<double>(load.size());
  for (size_t j = 0; j < bias.size(); ++j) bias[j] += 0.001 * ((mean > load[j]) - (mean < load[j]));
  mor::upload(model_.ops(), bias.data(), model_.balancing_bias());
}

MemoryUse Trainer::memory() const {
  MemoryUse use = planned_;
  use.parameters += model_.memory_bytes();
  const size_t held = inputs_.capacity() + readback_.arena().capacity() + activations_.capacity();
  use.activations = std::max(use.activations, held);
  return use;
}

}  // namespace mor
