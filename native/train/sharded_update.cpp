// Optimizer of several ranks: sums of gradients in, new weights out, bucket by bucket (docs/distributed.md).
#include <algorithm>
#include <cmath>
#include <limits>

#include "model/host_values.h"
#include "train/optimizer.h"

namespace mor {

namespace {

/// The unique layer with which the gradients of a parameter are complete: those of the head before all layers, and -1
/// for those that other parts of the model add to after their layers, or besides.
int32_t complete_with(const Parameter& p, int32_t unique_layers) {
  if (p.layer >= 0) return p.layer;
  return p.role == ParameterRole::norm || p.role == ParameterRole::projection ? unique_layers : -1;
}

}  // namespace

void Optimizer::plan_buckets() {
  const int32_t layers = model_.config().unique_layers();
  for (size_t b = shards_.buckets().size(); b-- > 0;) {
    const Bucket& bucket = shards_.buckets()[b];
    Completion completion{b, layers};
    for (const Parameter& p : parameters_.list())
      if (p.element < bucket.begin + communicator_->size() * bucket.piece && p.element + p.count() > bucket.begin &&
          p.element >= 0)
        completion.layer = std::min(completion.layer, complete_with(p, layers));
    completions_.push_back(completion);
  }
  std::stable_sort(completions_.begin(), completions_.end(),
                   [](const Completion& a, const Completion& b) { return a.layer > b.layer; });
}

void Optimizer::layer_done(int32_t layer) {
  while (started_ < completions_.size() && completions_[started_].layer >= layer)
    start(shards_.buckets()[completions_[started_++].bucket]);
}

double Optimizer::update_together(const std::vector<Tensor>& values, bool failed) {
  Ops& ops = model_.ops();
  layer_done(-1);
  started_ = 0;
  communicator_->wait();
  const Tensor own = norms_.slice(communicator_->rank(), 1);
  find_norm(sums_, values, own);
  if (failed) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    upload(ops, &none, own);
  }
  communicator_->all_gather(norms_);
  communicator_->wait();
  ops.global_norm(norms_, norm_);
  const double norm = read_master(ops, norm_)[0];
  if (!std::isfinite(norm)) return norm;
  torn_ = true;
  for (size_t b = 0; b < shards_.buckets().size(); ++b) step_of_bucket(b);
  communicator_->wait();
  for (const Bucket& bucket : shards_.buckets())
    copy_weights(bucket, bucket.begin, bucket.begin + communicator_->size() * bucket.piece, Direction::to_model);
  return norm;
}

void Optimizer::check_whole() const {
  MOR_CHECK(
      !torn_, COMMUNICATION_FAILED,
      "the ranks lost each other while they took a step, so their weights and optimiser state are of different steps; "
      "resume from the last checkpoint");
}

bool Optimizer::own_are_finite(const std::vector<Tensor>& values) {
  find_norm(gradient_, values, norm_);
  return std::isfinite(read_master(model_.ops(), norm_)[0]);
}

void Optimizer::start(const Bucket& bucket) {
  const int64_t count = communicator_->size() * bucket.piece;
  zero_idle(bucket.begin, bucket.begin + count);
  communicator_->reduce_scatter(gradient_.slice(bucket.begin, count), sums_.slice(bucket.kept, bucket.piece),
                                options_.gradient_wire);
}

Tensor Optimizer::gathered(const Bucket& bucket) const {
  return make_vector(gradient_.slice(bucket.begin, 0).data, model_.ops().compute_dtype(),
                     communicator_->size() * bucket.piece, "gathered weights");
}

void Optimizer::copy_weights(const Bucket& bucket, int64_t begin, int64_t end, Direction direction) {
  const Tensor all = gathered(bucket);
  const auto size = static_cast<int64_t>(dtype_size(all.dtype));
  for (const Parameter& p : parameters_.list()) {
    if (!p.trained) continue;
    const int64_t first = std::max(begin, p.element), last = std::min(end, p.element + p.count());
    if (first >= last) continue;
    void* in_model = static_cast<char*>(model_.weights()) + p.offset + (first - p.element) * size;
    void* in_gathered = all.slice(first - bucket.begin, 0).data;
    const auto bytes = static_cast<size_t>((last - first) * size);
    if (direction == Direction::to_model)
      model_.ops().copy(in_model, in_gathered, bytes);
    else
      model_.ops().copy(in_gathered, in_model, bytes);
  }
}

void Optimizer::step_of_bucket(size_t b) {
  const Bucket& bucket = shards_.buckets()[b];
  const auto own = [&](const Tensor& kept) { return kept.slice(bucket.kept, bucket.piece); };
  const Tensor weights = gathered(bucket);
  const int64_t begin = shards_.own_begin(bucket);
  // Masters that are the weights are taken from the model to where the new weights are gathered.
  if (!separate_) copy_weights(bucket, begin, begin + bucket.piece, Direction::from_model);
  const Tensor master = separate_ ? own(master_) : weights.slice(begin - bucket.begin, bucket.piece);
  model_.ops().adamw(master, weights.data, own(sums_), own(exp_avg_), own(exp_avg_sq_), norm_,
                     segments_ + segment_begin_[b], static_cast<int32_t>(segment_begin_[b + 1] - segment_begin_[b]),
                     options_, adamw_step_);
  communicator_->all_gather(weights);
}

}  // namespace mor
