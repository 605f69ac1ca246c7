// Optimizer: its memory, its state, and the step of a rank that trains alone.
#include "train/optimizer.h"

#include <algorithm>

#include "model/model_passes.h"
#include "ops/adamw_step.h"
#include "train/allocate_for.h"

namespace mor {

namespace {

const std::string kMaster = "master.";

int32_t ranks_of(const Communicator* communicator) {
  return communicator == nullptr ? 1 : communicator->size();
}

/// A rank that trains alone keeps all elements, in one bucket.
Shards shards_of(const Communicator* communicator, int64_t size, int64_t bucket_size) {
  if (communicator == nullptr) return {size, 0, 1, std::max<int64_t>(1, size)};
  return {size, communicator->rank(), communicator->size(), bucket_size};
}

void* element(void* data, DType dtype, int64_t index) {
  return static_cast<char*>(data) + index * static_cast<int64_t>(dtype_size(dtype));
}

/// `count` elements of a parameter: with its shape if they are all, else as one row.
Tensor part_of(const Parameter& p, void* data, DType dtype, int64_t count) {
  if (count != p.count()) return make_tensor(data, dtype, 1, count, p.name.c_str());
  return p.shape.size() == 1 ? make_vector(data, dtype, count, p.name.c_str())
                             : make_tensor(data, dtype, p.shape[0], p.shape[1], p.name.c_str());
}

/// What a rank keeps of a frozen parameter's masters: an equal share of the elements.
struct Share {
  int64_t begin, count;
};
Share share_of(const Communicator* communicator, const Parameter& p) {
  if (communicator == nullptr) return {0, p.count()};
  const int64_t rank = communicator->rank(), ranks = communicator->size();
  const int64_t begin = p.count() * rank / ranks;
  return {begin, p.count() * (rank + 1) / ranks - begin};
}

}  // namespace

Optimizer::Optimizer(Model& model, const TrainerOptions& options)
    : model_(model),
      options_(options),
      communicator_(options.communicator),
      parameters_(
          trained_parameters(model.config(), model.parameters(), options.parameters, ranks_of(options.communicator))),
      shards_(shards_of(options.communicator, parameters_.size(), options.bucket_size)),
      separate_(!parameters_.are_masters(model.ops().master_dtype())),
      buffers_(model.ops()) {
  Ops& ops = model.ops();
  const std::vector<ParameterSegment> segments = divided_segments();
  plan_memory();
  const auto allocate_all = [&](Arena& arena) { allocate(arena, static_cast<int64_t>(segments.size())); };
  const size_t bytes =
      count_memory(ops, [&](const Workspace& counting) { allocate_all(counting.activations); }).activations;
  allocate_for(concat("a trainer takes ", memory_.parameters, " bytes of master weights, ", memory_.gradients,
                      " of gradients and ", memory_.optimizer, " of optimizer state"),
               [&] { buffers_.reserve(bytes); });
  allocate_all(buffers_);
  ops.copy_to_device(segments_, segments.data(), segments.size() * sizeof(ParameterSegment));
  gradients_ = parameters_.gradients(all_gradients_);
  start_from_weights();
  list_state();
  if (communicator_ != nullptr) plan_buckets();
}

std::vector<ParameterSegment> Optimizer::divided_segments() {
  std::vector<ParameterSegment> divided;
  const std::vector<ParameterSegment> whole =
      segments_of(parameters_, static_cast<float>(options_.weight_decay), options_.parameters);
  segment_begin_ = {0};
  for (size_t b = 0; b < shards_.buckets().size(); ++b) {
    const Bucket& bucket = shards_.buckets()[b];
    for (const ParameterSegment& segment : whole)
      for (const Shard& shard : shards_.of(segment.offset, segment.count)) {
        if (shard.bucket != b) continue;
        ParameterSegment own = segment;
        own.count = shard.count;
        if (communicator_ != nullptr) {
          own.offset = shard.kept - bucket.kept;
          own.weight_offset = (shard.begin - bucket.begin) * static_cast<int64_t>(dtype_size(segment.storage));
        }
        divided.push_back(own);
      }
    segment_begin_.push_back(divided.size());
  }
  return divided;
}

void Optimizer::plan_memory() {
  const size_t size = dtype_size(model_.ops().master_dtype()), kept = static_cast<size_t>(shards_.kept()) * size;
  memory_.parameters = separate_ ? kept : 0;
  for (const Parameter& p : parameters_.list())
    if (p.frozen && keeps(kMaster, p, model_))
      memory_.parameters += static_cast<size_t>(share_of(communicator_, p).count) * size;
  memory_.gradients = static_cast<size_t>(parameters_.gradient_size()) * size;
  if (communicator_ != nullptr) memory_.gradients += kept;
  memory_.optimizer = 2 * kept;
}

void Optimizer::allocate(Arena& arena, int64_t segments) {
  const DType master = model_.ops().master_dtype();
  const int64_t kept = shards_.kept();
  if (separate_) master_ = arena.vector(master, kept, "master");
  all_gradients_ = arena.vector(master, parameters_.gradient_size(), "gradient");
  gradient_ = all_gradients_.slice(0, parameters_.size());
  frozen_masters_.clear();
  for (const Parameter& p : parameters_.list()) {
    if (!p.frozen || !keeps(kMaster, p, model_)) continue;
    const Share share = share_of(communicator_, p);
    if (share.count == 0) continue;
    const Tensor memory = arena.vector(master, share.count, p.name.c_str());
    frozen_masters_.push_back({kMaster + p.name, part_of(p, memory.data, master, share.count), share.begin});
  }
  exp_avg_ = arena.vector(master, kept, "exp_avg");
  exp_avg_sq_ = arena.vector(master, kept, "exp_avg_sq");
  adamw_step_ = arena.array<AdamWStep>(1);
  segments_ = arena.array<ParameterSegment>(segments);
  if (communicator_ == nullptr) return;
  sums_ = arena.vector(master, kept, "gradient sums");
  norms_ = arena.vector(master, communicator_->size(), "gradient norms");
  norm_ = arena.vector(master, 1, "gradient norm");
}

void Optimizer::start_from_weights() {
  Ops& ops = model_.ops();
  const auto start = [&](const Parameter& p, int64_t begin, int64_t count, const Tensor& master) {
    void* weights = element(static_cast<char*>(model_.weights()) + p.offset, p.storage, begin);
    ops.cast(part_of(p, weights, p.storage, count), master);
  };
  if (!separate_ && communicator_ == nullptr)
    master_ = make_vector(model_.weights(), ops.master_dtype(), parameters_.size(), "master");
  for (const Parameter& p : parameters_.list()) {
    if (separate_ && p.trained)
      for (const Shard& shard : shards_.of(p.element, p.count()))
        start(p, shard.begin - p.element, shard.count,
              part_of(p, element(master_.data, master_.dtype, shard.kept), master_.dtype, shard.count));
    for (const NamedTensor& frozen : frozen_masters_)
      if (kMaster + p.name == frozen.name) start(p, frozen.begin, frozen.tensor.count(), frozen.tensor);
  }
  for (const Tensor& t : {all_gradients_, exp_avg_, exp_avg_sq_}) zero(ops, t);
}

void Optimizer::list_state() {
  std::vector<Tensor> kept{exp_avg_, exp_avg_sq_};
  if (separate_) kept.insert(kept.begin(), master_);
  const std::vector<std::string> prefixes = state_prefixes(model_, parameters_);
  for (size_t i = 0; i < kept.size(); ++i)
    for (const Parameter& p : parameters_.list()) {
      if (!p.trained) continue;
      for (const Shard& shard : shards_.of(p.element, p.count()))
        state_.push_back({prefixes[i] + p.name,
                          part_of(p, element(kept[i].data, kept[i].dtype, shard.kept), kept[i].dtype, shard.count),
                          shard.begin - p.element});
    }
  state_.insert(state_.end(), frozen_masters_.begin(), frozen_masters_.end());
}

bool Optimizer::keeps(const std::string& prefix, const Parameter& parameter, const Model& model) {
  const bool rounded = parameter.storage != model.ops().master_dtype();
  return parameter.trained || (parameter.frozen && rounded && prefix == kMaster);
}

std::vector<std::string> Optimizer::state_prefixes(const Model& model, const Parameters& parameters) {
  if (parameters.are_masters(model.ops().master_dtype())) return {"exp_avg.", "exp_avg_sq."};
  return {kMaster, "exp_avg.", "exp_avg_sq."};
}

std::vector<Optimizer::WholeTensor> Optimizer::whole_state(const Model& model, const Parameters& parameters) {
  std::vector<WholeTensor> all;
  for (const std::string& prefix : state_prefixes(model, parameters))
    for (const Parameter& p : parameters.list())
      if (keeps(prefix, p, model)) all.push_back({prefix + p.name, p.shape});
  return all;
}

void Optimizer::set_step(double learning_rate, int64_t step) {
  const AdamWStep now = adamw_step(options_, learning_rate, step);
  model_.ops().copy_to_device(adamw_step_, &now, sizeof now);
}

void Optimizer::zero_gradients() {
  zero(model_.ops(), all_gradients_);
}

void Optimizer::update(const std::vector<Tensor>& values, const Tensor& norm) {
  Ops& ops = model_.ops();
  zero_idle(0, parameters_.size());
  find_norm(gradient_, values, norm);
  ops.adamw(master_, model_.weights(), gradient_, exp_avg_, exp_avg_sq_, norm, segments_,
            static_cast<int32_t>(segment_begin_.back()), options_, adamw_step_);
}

void Optimizer::zero_idle(int64_t begin, int64_t end) {
  for (const Parameter& p : parameters_.list()) {
    if (p.trained || p.element < 0) continue;
    const int64_t first = std::max(begin, p.element), last = std::min(end, p.element + p.count());
    if (first < last) zero(model_.ops(), gradient_.slice(first, last - first));
  }
}

void Optimizer::find_norm(const Tensor& gradient, const std::vector<Tensor>& values, const Tensor& norm) {
  model_.ops().global_norm(gradient, norm);
  for (const Tensor& part : values) model_.ops().reject_non_finite(part, norm);
}

}  // namespace mor
