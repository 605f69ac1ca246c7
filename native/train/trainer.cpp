// Trainer: one optimiser step.
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "ops/adamw_step.h"
#include "train/router_state.h"

namespace mor {

namespace {

using Clock = std::chrono::steady_clock;

const std::string kMaster = "master.";

Tensor frozen_master(Arena& arena, DType master, const Parameter& p) {
  return p.shape.size() == 1 ? arena.vector(master, p.shape[0], p.name.c_str())
                             : arena.tensor(master, p.shape[0], p.shape[1], p.name.c_str());
}

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

/// target_share, token_share: how much of the step's targets and tokens the part has.
void add(StepResult& total, const PassResult& part, double target_share, double share) {
  total.lm_loss += target_share * part.lm_loss;
  total.auxiliary_loss += share * part.statistics.auxiliary_loss;
  total.z_loss += share * part.statistics.z_loss;
  total.balancing_loss += share * part.statistics.balancing_loss;
  total.distillation_loss += target_share * part.distillation_loss;
  total.loss += target_share * part.target_loss() + share * part.statistics.router_loss();
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

/// Batches of the shapes of the rows, whose targets are counted; without ids.
std::vector<Batch> batches_of(const TokenRows& rows) {
  std::vector<Batch> batches;
  const uint8_t* counts = rows.counts;
  for (const BatchShape& shape : rows.micro_batches) {
    Batch batch{shape.sequences, shape.length, nullptr, nullptr};
    batch.target_count = int64_t{shape.sequences} * shape.length;
    if (counts != nullptr) {
      batch.target_count = 0;
      for (int32_t s = 0; s < shape.sequences; ++s, counts += shape.length + 1)
        batch.target_count += std::count_if(counts + 1, counts + shape.length + 1, [](uint8_t c) { return c != 0; });
    }
    batches.push_back(batch);
  }
  return batches;
}

int64_t tokens_of(const Batch& batch) {
  return int64_t{batch.sequences} * batch.length;
}

struct Totals {
  int64_t tokens = 0, targets = 0;
};
Totals totals_of(const std::vector<Batch>& batches) {
  Totals totals;
  for (const Batch& batch : batches) {
    totals.tokens += tokens_of(batch);
    totals.targets += batch.target_count;
  }
  return totals;
}

double share(int64_t part, int64_t all) {
  return static_cast<double>(part) / static_cast<double>(all);
}

/// For every depth, the share of the tokens that went as deep or deeper.
std::vector<double> shares_of(const std::vector<int64_t>& depth_histogram, int64_t tokens) {
  std::vector<double> shares(depth_histogram.size());
  int64_t deeper = 0;
  for (size_t r = shares.size(); r-- > 0;) {
    deeper += depth_histogram[r];
    shares[r] = share(deeper, tokens);
  }
  return shares;
}

std::string sizes_of(const std::vector<Batch>& batches) {
  const Batch& first = batches[0];
  const bool equal = std::all_of(batches.begin(), batches.end(), [&](const Batch& batch) {
    return batch.sequences == first.sequences && batch.length == first.length;
  });
  if (equal) return concat(batches.size(), " x ", first.sequences, " rows of ", first.length, " tokens");
  return concat(batches.size(), " micro-batches of together ", totals_of(batches).tokens, " tokens");
}

void check_rows(const ModelConfig& config, const TokenRows& rows, const std::vector<Batch>& batches) {
  MOR_CHECK(!batches.empty(), INVALID_ARGUMENT, "there are no rows");
  const int32_t* tokens = rows.tokens;
  for (const Batch& batch : batches) {
    MOR_CHECK(batch.sequences >= 1 && batch.length >= 1, INVALID_ARGUMENT,
              "a micro-batch needs at least one token: got ", batch.sequences, " rows of ", batch.length, " tokens");
    check_tokens(config, tokens, batch.sequences, batch.length + 1, batch.length);
    tokens += batch.sequences * (int64_t{batch.length} + 1);
  }
  MOR_CHECK(
      totals_of(batches).targets > 0, INVALID_ARGUMENT,
      "no target counts, so there is no loss; let the loss mask be true somewhere behind the first token of a row");
}

void check_teacher(const Model& model, const Model* teacher) {
  if (teacher == nullptr) return;
  MOR_CHECK(teacher != &model, INVALID_ARGUMENT, "a model cannot be its own teacher; load the teacher by itself");
  MOR_CHECK(teacher->config().vocab_size == model.config().vocab_size, INVALID_ARGUMENT,
            "the teacher's vocabulary has ", teacher->config().vocab_size, " tokens and the model's ",
            model.config().vocab_size, ", but they must be the same");
  const DType own = model.ops().compute_dtype(), other = teacher->ops().compute_dtype();
  MOR_CHECK(own == other, INVALID_ARGUMENT, "the teacher is ", dtype_name(other), " and the model ", dtype_name(own),
            ", but both must have one precision");
}

void check_teacher_context(const Model* teacher, const std::vector<Batch>& batches) {
  if (teacher == nullptr) return;
  const int32_t context = teacher->config().max_position_embeddings;
  for (const Batch& batch : batches)
    MOR_CHECK(batch.length <= context, CONTEXT_OVERFLOW, "rows of ", batch.length,
              " tokens do not fit the teacher's context of ", context);
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
      parameters_(trained_parameters(model.config(), model.parameters(), options.parameters)),
      buffers_(model.ops()),
      inputs_(model.ops()),
      activations_(model.ops()),
      readback_(model.ops()) {
  Ops& ops = model.ops();
  check_teacher(model, options.distillation.teacher);
  const Parameters& parameters = parameters_;
  const bool separate = !parameters.are_masters(ops.master_dtype());
  const std::vector<ParameterSegment> segments =
      segments_of(parameters, static_cast<float>(options.weight_decay), options.parameters);
  const int32_t recursions = model.config().num_recursions;
  MOR_CHECK(options.depth.from >= 1 && options.depth.from <= recursions, INVALID_ARGUMENT,
            "the schedule of depth begins with ", options.depth.from, " recursions, but the model has ", recursions);
  segment_count_ = static_cast<int32_t>(segments.size());
  const size_t flat_bytes = static_cast<size_t>(parameters.size()) * dtype_size(ops.master_dtype());
  planned_.parameters = separate ? flat_bytes : 0;
  for (const Parameter& p : parameters.list())
    if (p.frozen && keeps(kMaster, p, model))
      planned_.parameters += static_cast<size_t>(p.count()) * dtype_size(ops.master_dtype());
  planned_.gradients = static_cast<size_t>(parameters.gradient_size()) * dtype_size(ops.master_dtype());
  planned_.optimizer = 2 * flat_bytes;
  const auto allocate = [&](Arena& arena) {
    if (separate) master_ = flat(arena, "master");
    all_gradients_ = arena.vector(ops.master_dtype(), parameters.gradient_size(), "gradient");
    gradient_ = all_gradients_.slice(0, parameters.size());
    frozen_masters_.clear();
    for (const Parameter& p : parameters.list())
      if (p.frozen && keeps(kMaster, p, model))
        frozen_masters_.push_back({kMaster + p.name, frozen_master(arena, ops.master_dtype(), p)});
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

  if (!separate) master_ = make_vector(model.weights(), ops.master_dtype(), parameters.size(), "master");
  for (const Parameter& p : parameters.list())
    if (separate && p.trained) ops.cast(p.in_weights(model.weights()), p.in_flat(master_));
  for (const NamedTensor& frozen : frozen_masters_)
    for (const Parameter& p : parameters.list())
      if (kMaster + p.name == frozen.name) ops.cast(p.in_weights(model.weights()), frozen.tensor);
  for (const Tensor& t : {all_gradients_, exp_avg_, exp_avg_sq_}) zero(ops, t);
  ops.copy_to_device(segments_, segments.data(), segments.size() * sizeof(ParameterSegment));
  gradients_ = parameters.gradients(all_gradients_);
  for (const Parameter& p : parameters.list())
    if (!p.trained && p.element >= 0 && p.element < parameters.size()) idle_gradients_.push_back(p.in_flat(gradient_));
  std::vector<Tensor> kept{exp_avg_, exp_avg_sq_};
  if (separate) kept.insert(kept.begin(), master_);
  const std::vector<std::string> prefixes = state_prefixes(model, parameters);
  for (size_t i = 0; i < kept.size(); ++i)
    for (const Parameter& p : parameters.list())
      if (p.trained) state_.push_back({prefixes[i] + p.name, p.in_flat(kept[i])});
  state_.insert(state_.end(), frozen_masters_.begin(), frozen_masters_.end());
}

Tensor Trainer::flat(Arena& arena, const char* name) const {
  return arena.vector(model_.ops().master_dtype(), parameters_.size(), name);
}

bool Trainer::keeps(const std::string& prefix, const Parameter& parameter, const Model& model) {
  const bool rounded = parameter.storage != model.ops().master_dtype();
  return parameter.trained || (parameter.frozen && rounded && prefix == kMaster);
}

std::vector<std::string> Trainer::state_prefixes(const Model& model, const Parameters& parameters) {
  if (parameters.are_masters(model.ops().master_dtype())) return {"exp_avg.", "exp_avg_sq."};
  return {kMaster, "exp_avg.", "exp_avg_sq."};
}

PassOptions Trainer::pass_options() const {
  PassOptions options;
  if (model_.config().router.selects_by_threshold) options.routing = Routing::threshold;
  options.step = steps_done_;
  options.capacity_warmup_steps = options_.capacity_warmup_steps;
  options.max_recursions = options_.depth.recursions(model_.config().num_recursions, steps_done_);
  options.recompute = options_.recompute;
  options.distillation = options_.distillation;
  return options;
}

RecordingKey Trainer::key_of(const std::vector<Batch>& batches, const PassOptions& options) const {
  const ModelConfig& config = model_.config();
  const int32_t recursions = routing_rules(config).passes(options.max_recursions);
  RecordingKey key{static_cast<uint64_t>(recursions)};
  for (const Batch& batch : batches) {
    for (const int64_t extent : {int64_t{batch.sequences}, int64_t{batch.length}, batch.target_count})
      key.push_back(static_cast<uint64_t>(extent));
    if (config.router.type != RouterType::expert_choice || options.routing == Routing::threshold) continue;
    for (int32_t r = 1; r <= recursions; ++r)
      key.push_back(
          static_cast<uint64_t>(config.selected_count(r, batch.length, options.step, options.capacity_warmup_steps)));
  }
  return key;
}

void Trainer::reserve(const RecordingKey& key, const std::vector<Batch>& batches,
                      const std::function<void(const Workspace& workspace)>& work) {
  if (key == reserved_for_) return;
  reserved_for_.clear();
  const PassMemory need = count_memory(model_.ops(), work);
  const size_t inputs = 2 * static_cast<size_t>(totals_of(batches).tokens) * sizeof(int32_t);
  planned_.activations = inputs + need.activations + need.report;
  allocate_for(concat(sizes_of(batches), " take ", need.activations, " bytes of activations"), [&] {
    inputs_.reserve(inputs);
    readback_.arena().reserve(need.report);
    activations_.reserve(need.activations);
  });
  planned_.activations = 0;
  reserved_for_ = key;
}

void Trainer::upload(const TokenRows& rows, std::vector<Batch>& batches) {
  std::vector<int32_t> host;
  const int64_t tokens = totals_of(batches).tokens;
  host.reserve(2 * static_cast<size_t>(tokens));
  int64_t first = 0;  // id of a micro-batch
  for (const Batch& batch : batches) {
    const int64_t columns = int64_t{batch.length} + 1;
    for (const int64_t ahead : {0, 1})  // the tokens, then their targets
      for (int64_t s = 0; s < batch.sequences; ++s)
        for (int64_t i = first + s * columns + ahead; i < first + s * columns + ahead + batch.length; ++i)
          host.push_back(ahead == 1 && rows.counts != nullptr && rows.counts[i] == 0 ? -1 : rows.tokens[i]);
    first += batch.sequences * columns;
  }
  inputs_.reset();
  int32_t* device = inputs_.array<int32_t>(static_cast<int64_t>(host.size()));
  model_.ops().copy_to_device(device, host.data(), host.size() * sizeof(int32_t));
  for (Batch& batch : batches) {
    batch.tokens = device;
    batch.targets = device + tokens_of(batch);
    device += 2 * tokens_of(batch);
  }
}

Trainer::StepReport Trainer::passes(const Workspace& workspace, const std::vector<Batch>& batches) const {
  PassOptions options = pass_options();
  const Totals totals = totals_of(batches);
  workspace.report.reset();
  StepReport report;
  report.norm = workspace.report.vector(workspace.ops.master_dtype(), 1, "gradient norm");
  for (const Batch& batch : batches) {
    options.loss_scale = share(batch.target_count, totals.targets);
    options.router_loss_scale = share(tokens_of(batch), totals.tokens);
    report.passes.push_back(training_pass(model_, workspace, gradients_, batch, options));
  }
  return report;
}

StepResult Trainer::step(const TokenRows& rows) {
  const ModelConfig& config = model_.config();
  std::vector<Batch> batches = batches_of(rows);
  check_rows(config, rows, batches);
  check_teacher_context(options_.distillation.teacher, batches);
  const Clock::time_point begin = Clock::now();
  Ops& ops = model_.ops();
  const PassOptions pass = pass_options();
  RecordingKey key = key_of(batches, pass);
  reserve(key, batches, [&](const Workspace& counting) { passes(counting, batches); });
  // These arenas get other addresses when a larger batch comes. The buffers of the model and the trainer never move.
  for (const Arena* arena : {&inputs_, &activations_, &readback_.arena()})
    key.push_back(reinterpret_cast<uintptr_t>(arena->contents().data));

  upload(rows, batches);
  StepResult result;
  result.learning_rate = options_.schedule.rate(options_.learning_rate, steps_done_);
  const AdamWStep now = adamw_step(options_, result.learning_rate, steps_done_ + 1);
  ops.copy_to_device(adamw_step_, &now, sizeof now);
  const auto work = [&] {
    zero(ops, all_gradients_);
    report_ = passes(workspace(), batches);
    report_.bytes = readback_.arena().contents().bytes;
    for (const Tensor& idle : idle_gradients_) zero(ops, idle);
    ops.global_norm(gradient_, report_.norm);
    for (const PassReport& part : report_.passes) ops.reject_non_finite(part.values, report_.norm);
    ops.adamw(master_, model_.weights(), gradient_, exp_avg_, exp_avg_sq_, report_.norm, segments_, segment_count_,
              options_, adamw_step_);
  };
  model_.context(activations_).may_interrupt();
  model_.weights_changed();
  if (waits_for_counts(config, options_.distillation))
    work();
  else
    ops.replay(recording_, key, work);
  readback_.fetch(report_.bytes);

  std::vector<double> load;
  double teacher_flops = 0;
  const Totals totals = totals_of(batches);
  for (size_t m = 0; m < batches.size(); ++m) {
    const Batch& batch = batches[m];
    const PassResult part = read_report(config, report_.passes[m], readback_);
    add(result, part, share(batch.target_count, totals.targets), share(tokens_of(batch), totals.tokens));
    load.resize(std::max(load.size(), part.statistics.load.size()));
    for (size_t j = 0; j < part.statistics.load.size(); ++j) load[j] += part.statistics.load[j];
    teacher_flops += part.statistics.teacher_flops;
    result.vanilla_flops += vanilla_flops(config, batch.sequences, batch.length);
  }
  result.gradient_norm = readback_.values(report_.norm)[0];
  // adamw has read the same norm, which is NaN where a loss is not finite, and has changed nothing.
  MOR_CHECK(std::isfinite(result.gradient_norm), NON_FINITE, "step ", steps_done_ + 1, " was refused: loss ",
            result.loss, ", gradient norm ", result.gradient_norm,
            "; weights and optimiser state are as before. Lower the learning rate or look at the batch");
  if (model_.balancing_bias()) update_balancing_bias(model_, load);
  if (model_.thresholds()) result.thresholds = update_thresholds(model_, batches, pass, report_.passes, readback_);
  if (config.router.type == RouterType::expert_choice)
    result.selected_shares = shares_of(result.depth_histogram, totals.tokens);
  result.step = ++steps_done_;
  result.tokens = totals.tokens;
  result.targets = totals.targets;
  result.recursions = pass.max_recursions;
  result.flops = 3 * result.flops + teacher_flops;
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

StepResult Trainer::evaluate(const TokenRows& rows, Routing routing) {
  std::vector<Batch> batches = batches_of(rows);
  check_rows(model_.config(), rows, batches);
  const Clock::time_point begin = Clock::now();
  PassOptions options = pass_options();
  options.routing = routing;
  options.distillation = {};
  options.max_recursions = 0;
  RecordingKey key = key_of(batches, options);
  key.push_back(static_cast<uint64_t>(routing));
  key.push_back(0);  // so that no key of a step is equal
  const auto work = [&](const Workspace& workspace) {
    workspace.report.reset();
    std::vector<PassReport> reports;
    for (const Batch& batch : batches) reports.push_back(evaluation_pass(model_, workspace, batch, options));
    return reports;
  };
  reserve(key, batches, work);
  upload(rows, batches);
  const std::vector<PassReport> reports = work(workspace());
  readback_.fetch(readback_.arena().contents().bytes);
  StepResult result;
  const Totals totals = totals_of(batches);
  for (size_t m = 0; m < batches.size(); ++m)
    add(result, read_report(model_.config(), reports[m], readback_), share(batches[m].target_count, totals.targets),
        share(tokens_of(batches[m]), totals.tokens));
  result.tokens = totals.tokens;
  result.targets = totals.targets;
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

MemoryUse Trainer::memory() const {
  MemoryUse use = planned_;
  use.parameters += model_.memory_bytes();
  const size_t held = inputs_.capacity() + readback_.arena().capacity() + activations_.capacity();
  use.activations = std::max(use.activations, held);
  return use;
}

}  // namespace mor
