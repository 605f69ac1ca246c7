// Trainer: how it is made, its memory, and evaluations.
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "train/allocate_for.h"
#include "train/divergence.h"
#include "train/step_result.h"

namespace mor {

namespace {

using Clock = std::chrono::steady_clock;

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

void check_options(const Model& model, const TrainerOptions& options) {
  check_teacher(model, options.distillation.teacher);
  const int32_t recursions = model.config().num_recursions;
  MOR_CHECK(options.depth.from >= 1 && options.depth.from <= recursions, INVALID_ARGUMENT,
            "the schedule of depth begins with ", options.depth.from, " recursions, but the model has ", recursions);
  MOR_CHECK(options.gradient_wire == DType::float32 || options.gradient_wire == DType::bfloat16, INVALID_ARGUMENT,
            "gradients cannot travel as ", dtype_name(options.gradient_wire), "; use float32 or bfloat16");
  MOR_CHECK(options.weight_hash_interval >= 0, INVALID_ARGUMENT, "the ranks' weights cannot be compared every ",
            options.weight_hash_interval, " steps; use 0 for never");
}

std::unique_ptr<TimedCommunicator> timed(Communicator* communicator) {
  return communicator == nullptr ? nullptr : std::make_unique<TimedCommunicator>(*communicator);
}

TrainerOptions with_communicator(TrainerOptions options, Communicator* communicator) {
  options.communicator = communicator;
  return options;
}

}  // namespace

Trainer::Trainer(Model& model, const TrainerOptions& options)
    : model_(model),
      timed_(timed(options.communicator)),
      options_(with_communicator(options, timed_.get())),
      ranks_(timed_.get()),
      inputs_(model.ops()),
      activations_(model.ops()),
      readback_(model.ops()) {
  const std::vector<Numbers> ranks = ranks_.gather(RankCall::trainer, [&] {
    check_options(model, options_);
    optimizer_ = std::make_unique<Optimizer>(model, options_);
    return Numbers{static_cast<double>(optimizer_->parameters().count()),
                   static_cast<double>(dtype_size(model.ops().compute_dtype())),
                   static_cast<double>(dtype_size(options_.gradient_wire)), static_cast<double>(options_.bucket_size),
                   static_cast<double>(options_.weight_hash_interval)};
  });
  check_same(ranks, 0, "the number of trained elements");
  check_same(ranks, 1, "the bytes of a weight");
  check_same(ranks, 2, "the bytes of a gradient on its way");
  check_same(ranks, 3, "the size of buckets");
  check_same(ranks, 4, "the interval between comparisons of weights");
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
  planned_activations_ = inputs + need.activations + need.report;
  allocate_for(concat(sizes_of(batches), " take ", need.activations, " bytes of activations"), [&] {
    inputs_.reserve(inputs);
    readback_.arena().reserve(need.report);
    activations_.reserve(need.activations);
  });
  planned_activations_ = 0;
  reserved_for_ = key;
}

void Trainer::upload(const TokenRows& rows, std::vector<Batch>& batches) {
  const std::vector<int32_t> host = ids_and_targets(rows, batches);
  inputs_.reset();
  int32_t* device = inputs_.array<int32_t>(static_cast<int64_t>(host.size()));
  model_.ops().copy_to_device(device, host.data(), host.size() * sizeof(int32_t));
  for (Batch& batch : batches) {
    batch.tokens = device;
    batch.targets = device + tokens_of(batch);
    device += 2 * tokens_of(batch);
  }
}

StepResult Trainer::evaluate(const TokenRows& rows, Routing routing) {
  std::vector<Batch> batches = batches_of(rows);
  check_rows(model_.config(), rows, batches);
  const Totals totals = totals_of(batches);
  check_targets(totals);
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
  for (size_t m = 0; m < batches.size(); ++m)
    add_pass(result, read_report(model_.config(), reports[m], readback_),
             share(batches[m].target_count, totals.targets), share(tokens_of(batches[m]), totals.tokens));
  result.tokens = totals.tokens;
  result.targets = totals.targets;
  result.memory_bytes = memory().total();
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

void Trainer::compare_ranks(RankCall call) const {
  if (ranks_.size() > 1 && options_.weight_hash_interval > 0) check_same_weights(ranks_, call, model_, steps_done_);
}

MemoryUse Trainer::memory() const {
  MemoryUse use = optimizer_->memory();
  use.parameters += model_.memory_bytes();
  use.activations =
      std::max(planned_activations_, inputs_.capacity() + readback_.arena().capacity() + activations_.capacity());
  return use;
}

}  // namespace mor
