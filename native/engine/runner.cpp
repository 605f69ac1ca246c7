// Runner: the three stages on a device. Must not know of requests' order or admission.
#include "engine/runner.h"

#include <algorithm>

namespace mor {

namespace {

/// Rows as a cache of one "head" each, so that kv_write places whole rows.
Tensor as_slots(const Tensor& x) {
  return x.heads(x.columns());
}

}  // namespace

Runner::Runner(const Model& model, const KvCache& cache, int32_t stream_rows)
    : model_(model),
      cache_(cache),
      config_(model.config()),
      ops_(model.ops()),
      buffers_(ops_),
      arena_(ops_),
      context_(model.context(arena_)),
      sampler_(model) {
  const bool token_choice = config_.router.type == RouterType::token_choice;
  stream_ = buffers_.tensor(ops_.compute_dtype(), stream_rows * (token_choice ? 2 : 1), config_.hidden_size, "stream");
  entered_ = stream_.slice(0, stream_rows);
  block_output_ = token_choice ? stream_.slice(stream_rows, stream_rows).named("block output") : entered_;
  if (token_choice && !model.balancing_bias()) {
    no_bias_ = buffers_.vector(ops_.master_dtype(), config_.num_recursions, "no bias");
    zero(ops_, no_bias_);
  }

  const int32_t before = config_.layers_before(), after = config_.layers_after();
  for (int32_t l = 0; l < before; ++l) {
    before_.push_back(config_.unique_layer(l));
    before_keys_.push_back(cache.outside(l));
  }
  for (int32_t l = 0; l < after; ++l) {
    after_.push_back(config_.unique_layer(config_.num_hidden_layers - after + l));
    after_keys_.push_back(cache.outside(before + l));
  }
  if (config_.body_recursions() == 0) return;
  for (int32_t l = 0; l < config_.body_layers(); ++l) {
    block_.push_back(config_.unique_layer(before + l));
    block_keys_.push_back(cache.inside(l, KeySource::cache));
    given_keys_.push_back(cache.inside(l, KeySource::given));
  }
}

const StageOutcome& Runner::run_entry(const StagePlan& plan) {
  arena_.reset();
  for (const auto& [from, to] : plan.copies) cache_.copy_block(from, to);
  const DevicePlan device = upload(plan);
  const Tensor x = arena_.tensor(ops_.compute_dtype(), plan.rows(), config_.hidden_size, "entering");
  ops_.embedding_forward(device.token, model_.tensors().embed_tokens, x);
  run_layers(device.rows, {}, x, before_, before_keys_);
  ops_.kv_write(as_slots(x), device.slot, as_slots(entered_));
  if (config_.router.type == RouterType::expert_choice) read_scores(device.slot, {0, plan.rows()}, 1);
  if (config_.router.type == RouterType::token_choice) choose_depths(x);
  return outcome_;
}

const StageOutcome& Runner::run_block(const StagePlan& plan) {
  arena_.reset();
  const DevicePlan device = upload(plan);
  const Tensor gate = gates(plan, device);
  const Tensor x = arena_.tensor(ops_.compute_dtype(), plan.rows(), config_.hidden_size, "block");
  Rows rows = device.rows;
  rows.source = device.source;
  run_layers(rows, stream_, x, block_, plan.queries_only ? given_keys_ : block_keys_);
  leave_block(device, x, gate);
  if (config_.router.type == RouterType::expert_choice) read_scores(device.slot, plan.recursion_start, 2);
  return outcome_;
}

const StageOutcome& Runner::run_exit(const StagePlan& plan) {
  arena_.reset();
  const DevicePlan device = upload(plan);
  if (after_.empty()) {
    if (!plan.sampled.empty()) sampler_.run(arena_, entered_, device.last_slot, plan.sampled, outcome_);
    return outcome_;
  }
  const Tensor x = arena_.tensor(ops_.compute_dtype(), plan.rows(), config_.hidden_size, "leaving");
  Rows rows = device.rows;
  rows.source = device.slot;
  run_layers(rows, entered_, x, after_, after_keys_);
  if (!plan.sampled.empty()) sampler_.run(arena_, x, device.last, plan.sampled, outcome_);
  return outcome_;
}

/// One copy for everything.
Runner::DevicePlan Runner::upload(const StagePlan& plan) {
  integers_.clear();
  const auto append = [&](const std::vector<int32_t>& values) {
    const size_t at = integers_.size();
    integers_.insert(integers_.end(), values.begin(), values.end());
    return at;
  };
  const size_t slot = append(plan.slot), position = append(plan.position), visible = append(plan.visible),
               cache_slot = append(plan.cache_slot), start = append(plan.start), table = append(plan.block_table),
               token = append(plan.token), exits = append(plan.exits), last = append(plan.last),
               last_slot = append(plan.last_slot), exit_slot = integers_.size();
  for (const int32_t row : plan.exits) integers_.push_back(plan.slot[static_cast<size_t>(row)]);
  // Token choice: rows of recursion 1 read what entered, the others what the block made of it.
  size_t source = slot;
  if (config_.router.type == RouterType::token_choice && !plan.recursion_start.empty()) {
    source = append(plan.slot);
    for (size_t i = source + static_cast<size_t>(plan.recursion_start[1]); i < integers_.size(); ++i)
      integers_[i] += static_cast<int32_t>(entered_.rows());
  }
  const size_t bytes = integers_.size() * sizeof(int32_t);
  const int32_t* device = static_cast<int32_t*>(arena_.allocate(bytes));
  ops_.copy_to_device(const_cast<int32_t*>(device), integers_.data(), bytes);

  DevicePlan d;
  d.rows.count = plan.rows();
  d.rows.sequences = static_cast<int32_t>(plan.groups.size());
  d.rows.max_rows = plan.max_rows;
  d.rows.max_keys = plan.max_keys;
  d.rows.start = device + start;
  d.rows.position = device + position;
  d.rows.visible = device + visible;
  d.rows.block_table = device + table;
  d.rows.block_size = plan.block_size;
  d.rows.blocks_per_sequence = plan.blocks_per_group;
  d.rows.slot = device + cache_slot;
  d.slot = device + slot;
  d.source = device + source;
  d.token = device + token;
  d.exits = device + exits;
  d.exit_slot = device + exit_slot;
  d.last = device + last;
  d.last_slot = device + last_slot;
  return d;
}

void Runner::run_layers(const Rows& rows, const Tensor& stream, const Tensor& x, const std::vector<int32_t>& unique,
                        const std::vector<LayerKeys>& keys) {
  for (size_t i = 0; i < unique.size(); ++i)
    layer_forward(context_, model_.tensors().layers[static_cast<size_t>(unique[i])], rows, i == 0 ? stream : Tensor{},
                  x, keys[i], x, nullptr);
}

/// [rows] by how much what the block makes of each row counts; token choice: [exits].
Tensor Runner::gates(const StagePlan& plan, const DevicePlan& device) {
  if (config_.router.type == RouterType::none) return {};
  if (config_.router.type == RouterType::token_choice) return upload_master(plan.gate, "exit gate");
  const RouterConfig& router = config_.router;
  const Tensor gate = arena_.vector(ops_.master_dtype(), plan.rows(), "gate");
  for (size_t r = 0; r + 1 < plan.recursion_start.size(); ++r) {
    const int32_t first = plan.recursion_start[r], rows = plan.recursion_start[r + 1] - first;
    if (rows == 0) continue;
    const Tensor scores =
        router_forward(context_, model_.tensors().routers[r], entered_, device.slot + first, rows).scores;
    ops_.router_gate_forward(scores, nullptr, router.activation, router.alpha, gate.slice(first, rows));
  }
  return gate;
}

/// Takes x, what the block made of the rows, into the residual stream (mor.md sections 3 and 4).
void Runner::leave_block(const DevicePlan& device, const Tensor& x, const Tensor& gate) {
  switch (config_.router.type) {
    case RouterType::none:
      ops_.kv_write(as_slots(x), device.slot, as_slots(entered_));
      break;
    case RouterType::expert_choice:
      ops_.scatter_gated_forward(x, nullptr, gate, device.slot, entered_);
      break;
    case RouterType::token_choice:
      ops_.kv_write(as_slots(x), device.slot, as_slots(block_output_));
      ops_.scatter_gated_forward(x, device.exits, gate, device.exit_slot, entered_);
      break;
  }
}

/// Expert choice: the scores that decide who runs recursion `recursion` (rows start[0] .. start[1]), `recursion` + 1
/// (the next), and so on. Where nobody is to be asked, nothing is waited for.
void Runner::read_scores(const int32_t* slot, const std::vector<int32_t>& start, int32_t recursion) {
  const ModelTensors& tensors = model_.tensors();
  const Tensor all = arena_.vector(ops_.master_dtype(), start.back(), "scores");
  bool asked = false;
  for (size_t i = 0; i + 1 < start.size() && recursion <= config_.num_recursions; ++i, ++recursion) {
    const int32_t first = start[i], rows = start[i + 1] - first;
    if (rows == 0 || config_.runs_all(recursion)) continue;
    const size_t r = static_cast<size_t>(recursion) - 1;
    const RouterTensors& router = config_.router.auxiliary_router ? tensors.auxiliary_routers[r] : tensors.routers[r];
    const Tensor scores = router_forward(context_, router, entered_, slot + first, rows).scores;
    ops_.copy(all.slice(first, rows).data, scores.data, static_cast<size_t>(rows) * dtype_size(all.dtype));
    asked = true;
  }
  outcome_.score.resize(static_cast<size_t>(start.back()));
  if (asked) read_master(all, outcome_.score.data());
}

/// Token choice: depths and exit gates of x [R, d], the rows that enter the block.
void Runner::choose_depths(const Tensor& x) {
  const int64_t rows = x.rows(), n = config_.num_recursions;
  const DType master = ops_.master_dtype();
  const Tensor logits = router_forward(context_, model_.tensors().routers[0], x, nullptr, rows).scores;
  const Tensor probabilities = arena_.tensor(master, rows, n, "probabilities");
  const Tensor gate = arena_.vector(master, rows, "gate");
  const Tensor sums = arena_.vector(master, 2 * n + 1, "balancing sums");
  zero(ops_, sums);
  int32_t* depth = static_cast<int32_t*>(arena_.allocate(static_cast<size_t>(rows) * sizeof(int32_t)));
  ops_.token_choice_forward(logits, model_.balancing_bias() ? model_.balancing_bias() : no_bias_,
                            config_.router.activation, config_.router.alpha, probabilities, depth, gate,
                            sums.slice(0, n), sums.slice(n, n), sums.slice(2 * n, 1));
  outcome_.depth.resize(static_cast<size_t>(rows));
  outcome_.gate.resize(static_cast<size_t>(rows));
  ops_.copy_to_host(outcome_.depth.data(), depth, outcome_.depth.size() * sizeof(int32_t));
  read_master(gate, outcome_.gate.data());
}

Tensor Runner::upload_master(const std::vector<double>& values, const char* name) {
  const Tensor tensor = arena_.vector(ops_.master_dtype(), static_cast<int64_t>(values.size()), name);
  const void* host = values.data();
  if (tensor.dtype == DType::float32) {
    floats_.assign(values.begin(), values.end());
    host = floats_.data();
  }
  ops_.copy_to_device(tensor.data, host, values.size() * dtype_size(tensor.dtype));
  return tensor;
}

void Runner::read_master(const Tensor& tensor, double* values) {
  const size_t n = static_cast<size_t>(tensor.count());
  if (tensor.dtype == DType::float64) {
    ops_.copy_to_host(values, tensor.data, n * sizeof(double));
    return;
  }
  floats_.resize(n);
  ops_.copy_to_host(floats_.data(), tensor.as<float>(), n * sizeof(float));
  std::copy(floats_.begin(), floats_.end(), values);
}

}  // namespace mor
