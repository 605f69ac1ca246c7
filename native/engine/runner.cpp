// Runner: the three stages on a device.
#include "engine/runner.h"

#include <algorithm>

#include "model/host_values.h"

namespace mor {

namespace {

/// Each row seen as one head, so that kv_write copies whole rows into slots.
Tensor as_slots(const Tensor& x) {
  return x.heads(x.columns());
}

}  // namespace

Runner::Runner(const Model& model, const KvCache& cache, int32_t stream_rows)
    : model_(model),
      cache_(cache),
      config_(model.config()),
      rules_(routing_rules(config_)),
      ops_(model.ops()),
      buffers_(ops_),
      arena_(ops_),
      context_(model.context(arena_)),
      before_(layers_before_block(config_)),
      block_(layers_of_block(config_)),
      block_of_queries_(block_),
      after_(layers_after_block(config_)),
      sampler_(model),
      recordings_(ops_),
      upload_(ops_, config_.router.type == RouterType::token_choice, stream_rows + spare_rows(stream_rows),
              stream_rows) {
  const bool token_choice = config_.router.type == RouterType::token_choice;
  const int32_t rows = stream_rows + spare_rows(stream_rows);
  stream_ = buffers_.tensor(ops_.compute_dtype(), rows * (token_choice ? 2 : 1), config_.hidden_size, "stream");
  if (ops_.records()) zero(ops_, stream_);
  entered_ = stream_.slice(0, rows);
  block_output_ = token_choice ? stream_.slice(rows, rows).named("block output") : entered_;

  int32_t outside = 0;
  for (LayerKeys& keys : before_.keys) keys = cache.outside(outside++);
  for (LayerKeys& keys : after_.keys) keys = cache.outside(outside++);
  for (int32_t l = 0; l < config_.body_layers(); ++l) {
    block_.keys[static_cast<size_t>(l)] = cache.inside(l, KeySource::cache);
    block_of_queries_.keys[static_cast<size_t>(l)] = cache.inside(l, KeySource::given);
  }
}

/// Stream rows for the spare rows of a recorded stage (DevicePlan).
int32_t Runner::spare_rows(int32_t stream_rows) const {
  return ops_.records() ? rounded_rows(stream_rows) : 0;
}

DevicePlan Runner::begin_stage(const StagePlan& plan, bool layers) {
  arena_.reset();
  scores_ = {};
  choice_ = {};
  sampled_ = {};
  return upload_(plan, extent_of(plan, ops_.records(), layers), arena_);
}

void Runner::launch_entry(const StagePlan& plan) {
  for (const auto& [from, to] : plan.copies) cache_.copy_block(from, to);
  const DevicePlan device = begin_stage(plan, !before_.unique.empty());
  const Tensor x = arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "entering");
  const bool token_choice = config_.router.type == RouterType::token_choice;
  begin_scores(device);
  if (token_choice) choice_ = allocate_token_choice(context_, device.extent.rows);
  run(Stage::entry, device, x, [&] {
    ops_.embedding_forward(device.token, model_.tensors().embed_tokens, x);
    run_layers(context_, model_.tensors(), before_, device.rows, {}, x);
    ops_.kv_write(as_slots(x), device.slot, as_slots(entered_));
    score_next(device);
    if (token_choice) choose_depths(context_, model_, x, choice_);
  });
  if (token_choice) choice_.gate = choice_.gate.slice(0, plan.rows());
}

void Runner::launch_block(const StagePlan& plan) {
  const DevicePlan device = begin_stage(plan, !block_.unique.empty());
  const Tensor x = arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "block");
  Rows rows = device.rows;
  rows.source = device.source;
  const Tensor exit_gate = config_.router.type == RouterType::token_choice
                               ? upload_master(plan.gate, device.exit_count, "exit gate")
                               : Tensor{};
  begin_scores(device);
  run(plan.queries_only ? Stage::block_of_queries : Stage::block, device, x, [&] {
    run_layers(context_, model_.tensors(), plan.queries_only ? block_of_queries_ : block_, rows, stream_, x);
    leave_block(device, x, exit_gate);
    score_next(device);
  });
}

void Runner::launch_exit(const StagePlan& plan) {
  const bool layers = !after_.unique.empty();
  const DevicePlan device = begin_stage(plan, layers);
  const Tensor x =
      layers ? arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "leaving") : entered_;
  Rows rows = device.rows;
  rows.source = device.slot;
  const bool sampling = !plan.last.empty();
  if (sampling) {
    sampled_ = x;
    sampled_rows_ = layers ? device.last : device.last_slot;
    sampler_.begin(arena_, device.last_count, device.extent.recorded, plan);
  }
  if (!sampling && !layers) return;
  run(sampling ? Stage::exit : Stage::exit_without_token, device, x, [&] {
    run_layers(context_, model_.tensors(), after_, rows, entered_, x);
    if (sampling) sampler_.launch(sampled_, sampled_rows_);
  });
}

const StageOutcome& Runner::collect() {
  if (scores_) read_scores();
  if (choice_.gate) {
    outcome_.depth = read_integers(ops_, choice_.depth, choice_.gate.count());
    outcome_.gate = read_master(ops_, choice_.gate);
  }
  if (sampled_) sampler_.collect(sampled_, sampled_rows_, outcome_);
  return outcome_;
}

/// Does what work() does with the rows of `device`, by a recording if there is one. x: the memory of the rows.
void Runner::run(Stage stage, const DevicePlan& device, const Tensor& x, const std::function<void()>& work) {
  if (!device.extent.recorded) return work();
  context_.may_interrupt();
  RecordingKey bucket = {static_cast<uint64_t>(stage), static_cast<uint64_t>(device.extent.rows),
                         static_cast<uint64_t>(device.extent.keys)};
  if (config_.router.type == RouterType::expert_choice)
    for (const RecursionRows& at : device.recursions) bucket.push_back(static_cast<uint64_t>(at.recursion));
  // The arena has other addresses once it has grown. After an allocation that failed it may be smaller at the same one.
  recordings_.replay(
      bucket, {arena_.generation(), reinterpret_cast<uintptr_t>(device.slot), reinterpret_cast<uintptr_t>(x.data)},
      work);
}

/// Takes x, the output of the block, into the residual stream (docs/model.md sections 3 and 4).
void Runner::leave_block(const DevicePlan& device, const Tensor& x, const Tensor& exit_gate) {
  switch (config_.router.type) {
    case RouterType::none:
      return ops_.kv_write(as_slots(x), device.slot, as_slots(entered_));
    case RouterType::expert_choice: {
      const Tensor scores = arena_.vector(ops_.master_dtype(), device.scores, "gate scores");
      for (const RecursionRows& at : device.recursions)
        score(device, at, model_.tensors().routers[static_cast<size_t>(at.recursion) - 1], scores);
      const Gates gates = expert_gates(context_, scores, device.score_of, x.rows());
      return add_gated(context_, gates, x, nullptr, device.slot, entered_);
    }
    case RouterType::token_choice:
      ops_.kv_write(as_slots(x), device.slot, as_slots(block_output_));
      return add_gated(context_, gates_of(context_, exit_gate), x, device.exits, device.exit_slot, entered_);
  }
}

/// Allocates the scores that decide which tokens go on. If no router is asked, there is nothing to collect.
void Runner::begin_scores(const DevicePlan& device) {
  const bool any = std::any_of(device.recursions.begin(), device.recursions.end(),
                               [&](const RecursionRows& at) { return rules_.asks_router(at.recursion + 1); });
  if (!any) return;
  scores_ = arena_.vector(ops_.master_dtype(), device.scores, "scores");
  score_of_ = device.host_score_of;
}

void Runner::score_next(const DevicePlan& device) {
  const std::vector<RouterTensors>& routers = threshold_routers(model_);
  for (const RecursionRows& at : device.recursions)
    if (rules_.asks_router(at.recursion + 1)) score(device, at, routers[static_cast<size_t>(at.recursion)], scores_);
}

/// Scores the rows `at` one recursion, and puts the scores where they belong among `all`.
void Runner::score(const DevicePlan& device, const RecursionRows& at, const RouterTensors& router, const Tensor& all) {
  const Tensor scores = router_forward(context_, router, entered_, device.slot + at.first, at.rows).scores;
  ops_.copy(all.slice(at.at, at.rows).data, scores.data, static_cast<size_t>(at.rows) * dtype_size(all.dtype));
}

/// A recorded stage has scores of all rows at every recursion that occurs; the plan's rows take their own.
void Runner::read_scores() {
  std::vector<double>& score = outcome_.score;
  score = read_master(ops_, scores_);
  if (score_of_.empty()) return;
  for (size_t i = 0; i < score_of_.size(); ++i)
    score[i] = score[static_cast<size_t>(score_of_[i])];  // score_of_[i] >= i
  score.resize(score_of_.size());
}

/// The values as a tensor [count], filled up with zeros.
Tensor Runner::upload_master(std::vector<double> values, int32_t count, const char* name) {
  values.resize(static_cast<size_t>(count));
  const Tensor tensor = arena_.vector(ops_.master_dtype(), count, name);
  upload(ops_, values.data(), tensor);
  return tensor;
}

}  // namespace mor
