// The places of a model's tensors in memory.
#include "model/parameters.h"

#include <algorithm>
#include <utility>

namespace mor {

namespace {

constexpr int64_t kAlignment = 64;  // elements, so that every view starts on a cache line in any dtype
constexpr int64_t kMostBytes = int64_t{1} << 53;

int64_t aligned(int64_t n, int64_t alignment) {
  return (n + alignment - 1) / alignment * alignment;
}

/// Whether the gradient of a frozen parameter is computed all the same: it comes with that of the activations, and no
/// product of its own would be saved.
bool has_idle_gradient(const Parameter& p) {
  return p.frozen && p.role != ParameterRole::embedding && p.role != ParameterRole::projection;
}

}  // namespace

std::vector<Parameter> parameter_rows(const ModelConfig& config, DType compute, DType master) {
  config.validate();
  std::vector<Parameter> rows;
  ModelTensors tensors;
  const Tensor* last = nullptr;
  describe_model(config, tensors, [&](const Parameter& row, Tensor& view) {
    rows.push_back(row);
    rows.back().fused = &view == last;
    // Balancing bias and thresholds, which are not trained, move in steps so small that the compute dtype would round
    // them away.
    rows.back().storage = row.trained ? compute : master;
    last = &view;
  });
  return rows;
}

Parameters::Parameters(const ModelConfig& config, DType compute, DType master)
    : Parameters(config, parameter_rows(config, compute, master)) {}

Parameters::Parameters(const ModelConfig& config, std::vector<Parameter> rows, int64_t parts)
    : config_(config), list_(std::move(rows)) {
  DType last = DType::float32;
  for (Parameter& p : list_) {
    MOR_CHECK(!p.fused || p.storage == last, INTERNAL, p.name, " is stored as ", dtype_name(p.storage),
              ", but the rows before it of the same view as ", dtype_name(last));
    last = p.storage;
    const auto size = static_cast<int64_t>(dtype_size(p.storage));
    int64_t room = (kMostBytes - bytes_) / size;  // divided, since the product of the extents may exceed 64 bits
    for (const int64_t extent : p.shape) room /= extent;
    MOR_CHECK(room >= 1, OUT_OF_MEMORY, "the weights up to ", p.name, " take more than ", kMostBytes / 1000000000,
              " GB, and no device has as much memory");
    if (!p.fused) bytes_ = aligned(bytes_, kAlignment * size);
    p.offset = bytes_;
    p.element = -1;
    bytes_ += p.bytes();
  }
  bytes_ = aligned(bytes_, kAlignment);
  place_in_flat_buffers(parts);
}

/// A view is whole in a flat buffer or not at all, since one product computes its gradient. The views behind size() are
/// those of which nothing is trained.
void Parameters::place_in_flat_buffers(int64_t parts) {
  const auto end_of_view = [&](size_t begin) {
    size_t end = begin + 1;
    while (end < list_.size() && list_[end].fused) ++end;
    return end;
  };
  for (const bool trained : {true, false}) {
    for (size_t begin = 0, end; begin < list_.size(); begin = end) {
      end = end_of_view(begin);
      const auto first = list_.begin() + static_cast<ptrdiff_t>(begin),
                 last = list_.begin() + static_cast<ptrdiff_t>(end);
      const bool any = std::any_of(first, last, [](const Parameter& p) { return p.trained; });
      if (any != trained || (!any && !has_idle_gradient(*first))) continue;
      gradient_size_ = aligned(gradient_size_, kAlignment);
      for (auto p = first; p != last; ++p) {
        p->element = gradient_size_;
        gradient_size_ += p->count();
      }
    }
    if (trained) size_ = gradient_size_ = aligned(gradient_size_, parts);
  }
}

int64_t Parameters::count() const {
  int64_t n = 0;
  for (const Parameter& p : list_) n += p.trained ? p.count() : 0;
  return n;
}

bool Parameters::are_masters(DType master) const {
  return std::all_of(list_.begin(), list_.end(), [&](const Parameter& p) {
    return !p.trained || (p.storage == master && p.offset == p.element * static_cast<int64_t>(dtype_size(master)));
  });
}

template <class Place>
ModelTensors Parameters::views(const Place& place) const {
  ModelTensors tensors;
  size_t index = 0;
  describe_model(config_, tensors, [&](const Parameter&, Tensor& view) {
    const Parameter& p = list_[index++];
    const Tensor own = place(p);
    if (p.fused && own)
      view.shape[0] += own.shape[0];
    else
      view = own;
  });
  return tensors;
}

ModelTensors Parameters::weights(void* buffer) const {
  return views([&](const Parameter& p) { return p.in_weights(buffer); });
}

ModelTensors Parameters::gradients(const Tensor& flat) const {
  return views([&](const Parameter& p) { return p.in_flat(flat); });
}

std::vector<ParameterSegment> Parameters::segments(float weight_decay) const {
  std::vector<ParameterSegment> segments;
  for (const Parameter& p : list_) {
    if (!p.trained) continue;
    ParameterSegment s;
    s.offset = p.element;
    s.count = p.count();
    s.weight_offset = p.offset;
    s.storage = p.storage;
    s.weight_decay = p.decays ? weight_decay : 0;
    s.learning_rate_scale = p.learning_rate_scale;
    segments.push_back(s);
  }
  return segments;
}

}  // namespace mor
