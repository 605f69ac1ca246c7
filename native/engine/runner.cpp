// Runner: the three stages on a device. Must not know of requests' order or admission.
#include "engine/runner.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace mor {

namespace {

/// Each takes memory of the device. The one that was not used for longest makes room for another.
constexpr size_t kMostRecordings = 64;
constexpr int32_t kFewestKeys = 256;  // below, more keys make no more blocks of attention
constexpr int32_t kRowsOfATile = 64;  // of matrix products: up to them rows cost little, then each further tile

int32_t rounded_rows(int32_t rows) {
  if (rows > kRowsOfATile) return (rows + kRowsOfATile - 1) / kRowsOfATile * kRowsOfATile;
  return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(rows)));
}

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

void Runner::begin_stage() {
  arena_.reset();
  scores_ = chosen_gate_ = {};
  chosen_depth_ = nullptr;
  sampling_ = false;
}

void Runner::launch_entry(const StagePlan& plan) {
  begin_stage();
  for (const auto& [from, to] : plan.copies) cache_.copy_block(from, to);
  const DevicePlan device = upload(plan, before_);
  const Tensor all = arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "entering");
  const Tensor x = all.slice(0, plan.rows());
  ops_.embedding_forward(device.token, model_.tensors().embed_tokens, x);
  run_layers(device.extent, device.rows, {}, all, before_, before_keys_);
  ops_.kv_write(as_slots(x), device.slot, as_slots(entered_));
  if (config_.router.type == RouterType::expert_choice) score(device.slot, {0, plan.rows()}, 1);
  if (config_.router.type == RouterType::token_choice) choose_depths(x);
}

void Runner::launch_block(const StagePlan& plan) {
  begin_stage();
  const DevicePlan device = upload(plan, block_);
  const Tensor x = arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "block");
  Rows rows = device.rows;
  rows.source = device.source;
  run_layers(device.extent, rows, stream_, x, block_, plan.queries_only ? given_keys_ : block_keys_);
  leave_block(device, x.slice(0, plan.rows()), gates(plan, device));
  if (config_.router.type == RouterType::expert_choice) score(device.slot, plan.recursion_start, 2);
}

void Runner::launch_exit(const StagePlan& plan) {
  begin_stage();
  const DevicePlan device = upload(plan, after_);
  sampling_ = !plan.sampled.empty();
  if (after_.empty()) {
    if (sampling_) sampler_.launch(arena_, entered_, device.last_slot, plan.sampled);
    return;
  }
  const Tensor x = arena_.tensor(ops_.compute_dtype(), device.extent.rows, config_.hidden_size, "leaving");
  Rows rows = device.rows;
  rows.source = device.slot;
  run_layers(device.extent, rows, entered_, x, after_, after_keys_);
  if (sampling_) sampler_.launch(arena_, x, device.last, plan.sampled);
}

const StageOutcome& Runner::collect() {
  if (scores_) read_master(scores_, outcome_.score);
  if (chosen_gate_) {
    outcome_.depth.resize(static_cast<size_t>(chosen_gate_.count()));
    ops_.copy_to_host(outcome_.depth.data(), chosen_depth_, outcome_.depth.size() * sizeof(int32_t));
    read_master(chosen_gate_, outcome_.gate);
  }
  if (sampling_) sampler_.collect(outcome_);
  return outcome_;
}

Runner::Extent Runner::extent_of(const StagePlan& plan, const std::vector<int32_t>& layers) const {
  if (!ops_.records() || layers.empty() || plan.max_rows > 1)
    return {false, plan.rows(), plan.max_keys, plan.blocks_per_group};
  const int32_t keys = std::max(kFewestKeys, static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(plan.max_keys))));
  return {true, rounded_rows(plan.rows()), keys, (keys + plan.block_size - 1) / plan.block_size};
}

/// One copy for everything, as long for every plan of a recorded extent.
Runner::DevicePlan Runner::upload(const StagePlan& plan, const std::vector<int32_t>& layers) {
  const Extent extent = extent_of(plan, layers);
  const size_t rows = static_cast<size_t>(extent.rows), beyond = rows - plan.slot.size();
  const size_t groups = plan.groups.size() + beyond, tables = plan.table.empty() ? 0 : plan.table.size() + beyond;
  const size_t columns = static_cast<size_t>(extent.blocks);
  // Token choice: rows of recursion 1 read what entered, the others what the block made of it.
  const bool two_sources = config_.router.type == RouterType::token_choice && !plan.recursion_start.empty();
  const size_t most = 10 * rows + groups + 1 + tables * columns;
  if (integers_.size() < most) integers_.resize(most);
  size_t used = 0;
  const auto append = [&](const std::vector<int32_t>& values) {
    std::copy(values.begin(), values.end(), &integers_[used]);
    return std::exchange(used, used + values.size());
  };
  const auto append_rows = [&](const std::vector<int32_t>& values, int32_t of_those_beyond) {
    const size_t at = append(values);
    std::fill_n(&integers_[used], beyond, of_those_beyond);
    used += beyond;
    return at;
  };
  const size_t slot = append_rows(plan.slot, 0), position = append_rows(plan.position, 0),
               visible = append_rows(plan.visible, 0), cache_slot = append_rows(plan.cache_slot, -1),
               start = append(plan.start);
  for (size_t i = 1; i <= beyond; ++i) integers_[used++] = plan.rows() + static_cast<int32_t>(i);
  const size_t source = two_sources ? append_rows(plan.slot, 0) : slot;
  if (two_sources)
    for (size_t i = static_cast<size_t>(plan.recursion_start[1]); i < plan.slot.size(); ++i)
      integers_[source + i] += static_cast<int32_t>(entered_.rows());
  const size_t table = used;
  for (size_t g = 0; g < plan.table.size(); ++g, used += columns) {
    const size_t n = static_cast<size_t>(plan.blocks_of_group(g));
    std::fill_n(std::copy_n(plan.table[g], n, &integers_[used]), columns - n, 0);
  }
  std::fill_n(&integers_[used], table + tables * columns - used, 0);
  used = table + tables * columns;
  const size_t token = append(plan.token), exits = append(plan.exits), last = append(plan.last),
               last_slot = append(plan.last_slot), exit_slot = used;
  for (const int32_t row : plan.exits) integers_[used++] = plan.slot[static_cast<size_t>(row)];
  const int32_t* device = static_cast<int32_t*>(arena_.allocate(most * sizeof(int32_t)));
  ops_.copy_to_device(const_cast<int32_t*>(device), integers_.data(), used * sizeof(int32_t));

  DevicePlan d;
  d.extent = extent;
  d.rows.count = extent.rows;
  d.rows.sequences = static_cast<int32_t>(groups);
  d.rows.max_rows = plan.max_rows;
  d.rows.max_keys = extent.keys;
  d.rows.start = device + start;
  d.rows.position = device + position;
  d.rows.visible = device + visible;
  d.rows.block_table = device + table;
  d.rows.block_size = plan.block_size;
  d.rows.blocks_per_sequence = extent.blocks;
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

void Runner::run_layers(const Extent& extent, const Rows& rows, const Tensor& stream, const Tensor& x,
                        const std::vector<int32_t>& unique, const std::vector<LayerKeys>& keys) {
  const auto run = [&] {
    for (size_t i = 0; i < unique.size(); ++i)
      layer_forward(context_, model_.tensors().layers[static_cast<size_t>(unique[i])], rows, i == 0 ? stream : Tensor{},
                    x, keys[i], x, nullptr);
  };
  if (!extent.recorded) return run();
  context_.may_interrupt();
  RecordingKey key = {reinterpret_cast<uintptr_t>(&keys), static_cast<uint64_t>(extent.rows),
                      static_cast<uint64_t>(extent.keys)};
  std::unique_ptr<Recording>& recording = recording_of(key);
  // The arena lies elsewhere once it has grown, or, after an allocation that failed, is smaller in the same place.
  key.push_back(arena_.generation());
  for (const void* address : {static_cast<const void*>(rows.start), static_cast<const void*>(x.data)})
    key.push_back(reinterpret_cast<uintptr_t>(address));
  ops_.replay(recording, key, run);
}

std::unique_ptr<Recording>& Runner::recording_of(const RecordingKey& bucket) {
  auto found = std::find_if(recordings_.begin(), recordings_.end(),
                            [&](const Recorded& recorded) { return recorded.bucket == bucket; });
  if (found == recordings_.end()) {
    if (recordings_.size() == kMostRecordings)
      recordings_.erase(std::min_element(recordings_.begin(), recordings_.end(),
                                         [](const auto& a, const auto& b) { return a.last_used < b.last_used; }));
    recordings_.push_back({bucket, nullptr, 0});
    found = recordings_.end() - 1;
  }
  found->last_used = ++recordings_used_;
  return found->recording;
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
/// (the next), and so on. Where nobody is to be asked, there is nothing to collect.
void Runner::score(const int32_t* slot, const std::vector<int32_t>& start, int32_t recursion) {
  const ModelTensors& tensors = model_.tensors();
  outcome_.score.resize(static_cast<size_t>(start.back()));
  const Tensor all = arena_.vector(ops_.master_dtype(), start.back(), "scores");
  for (size_t i = 0; i + 1 < start.size() && recursion <= config_.num_recursions; ++i, ++recursion) {
    const int32_t first = start[i], rows = start[i + 1] - first;
    if (rows == 0 || config_.runs_all(recursion)) continue;
    const size_t r = static_cast<size_t>(recursion) - 1;
    const RouterTensors& router = config_.router.auxiliary_router ? tensors.auxiliary_routers[r] : tensors.routers[r];
    const Tensor scores = router_forward(context_, router, entered_, slot + first, rows).scores;
    ops_.copy(all.slice(first, rows).data, scores.data, static_cast<size_t>(rows) * dtype_size(all.dtype));
    scores_ = all;
  }
}

/// Token choice: depths and exit gates of x [R, d], the rows that enter the block.
void Runner::choose_depths(const Tensor& x) {
  const int64_t rows = x.rows(), n = config_.num_recursions;
  const DType master = ops_.master_dtype();
  const Tensor logits = router_forward(context_, model_.tensors().routers[0], x, nullptr, rows).scores;
  const Tensor probabilities = arena_.tensor(master, rows, n, "probabilities");
  const Tensor sums = arena_.vector(master, 2 * n + 1, "balancing sums");
  zero(ops_, sums);
  chosen_gate_ = arena_.vector(master, rows, "gate");
  int32_t* depth = static_cast<int32_t*>(arena_.allocate(static_cast<size_t>(rows) * sizeof(int32_t)));
  chosen_depth_ = depth;
  ops_.token_choice_forward(logits, model_.balancing_bias() ? model_.balancing_bias() : no_bias_,
                            config_.router.activation, config_.router.alpha, probabilities, depth, chosen_gate_,
                            sums.slice(0, n), sums.slice(n, n), sums.slice(2 * n, 1));
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

void Runner::read_master(const Tensor& tensor, std::vector<double>& values) {
  const size_t n = static_cast<size_t>(tensor.count());
  values.resize(n);
  if (tensor.dtype == DType::float64) {
    ops_.copy_to_host(values.data(), tensor.data, n * sizeof(double));
    return;
  }
  floats_.resize(n);
  ops_.copy_to_host(floats_.data(), tensor.as<float>(), n * sizeof(float));
  std::copy(floats_.begin(), floats_.end(), values.begin());
}

}  // namespace mor
