// HiddenStates: copies whole batches of states to the host, and puts the rows that a layer runs into their places.
#include "model/hidden_states.h"

#include <algorithm>

#include "model/host_values.h"

namespace mor {

void HiddenStates::begin_run(int32_t first, const Tensor& others, const int32_t* to) {
  first_ = first;
  others_ = others;
  to_ = to;
}

void HiddenStates::record(size_t i, const Tensor& x, const int32_t* source, int64_t count) {
  record_up_to(first_ + static_cast<int32_t>(i), x, source, count);
}

void HiddenStates::record_last(const Tensor& x) {
  begin_run(pass_.model.config().num_hidden_layers, {}, nullptr);
  record(0, x, nullptr, rows_);
}

void HiddenStates::record_up_to(int32_t layer, const Tensor& x, const int32_t* source, int64_t count) {
  // A pass that stops at fewer recursions skips layers: there, too, tokens have the state with which they go on.
  const float* first = nullptr;
  const int64_t size = rows_ * pass_.model.config().hidden_size;
  for (; next_ <= layer; ++next_) {
    const auto found = std::find(layers_.begin(), layers_.end(), next_);
    if (found == layers_.end()) continue;
    float* values = values_ + (found - layers_.begin()) * size;
    if (first == nullptr)
      copy_states(x, source, count, values);
    else
      std::copy(first, first + size, values);
    first = values;
  }
}

void HiddenStates::copy_states(const Tensor& x, const int32_t* source, int64_t count, float* values) {
  Ops& ops = pass_.ops();
  const ArenaScope scope(pass_.arena());
  Tensor states = x;
  if (source != nullptr) {
    states = pass_.arena().tensor(x.dtype, count, x.columns(), "hidden states");
    ops.gather_rows(x, source, states);
  }
  if (to_ == nullptr) return download(ops, states, values);
  download(ops, others_, values);
  std::vector<float> active(static_cast<size_t>(states.count()));
  download(ops, states, active.data());
  const std::vector<int32_t> rows = read_integers(ops, to_, count);
  const int64_t width = states.columns();
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(active.begin() + i * width, width, values + rows[static_cast<size_t>(i)] * width);
}

}  // namespace mor
