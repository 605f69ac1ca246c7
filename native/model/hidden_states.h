// HiddenStates: copies of the residual stream before chosen layers, in host memory.
#pragma once

#include <vector>

#include "model/pass.h"

namespace mor {

/// The state of a token before effective layer l is its residual stream as the next layer that it runs reads it: a
/// token that does not run a layer keeps its state there, and one that leaves the block has its gated state. The state
/// "before" layer num_hidden_layers is the input of the final norm.
class HiddenStates {
 public:
  /// layers: distinct, from 0 to num_hidden_layers. values [layers, rows, hidden] float32, rows being those of the
  /// batch.
  HiddenStates(Pass& pass, const std::vector<int32_t>& layers, int64_t rows, float* values)
      : pass_(pass), layers_(layers), rows_(rows), values_(values) {}

  /// The next layers to run are those from effective layer `first` on. Their rows are the rows `to` of the batch (null:
  /// all of them), and `others` [M, d] has the state of the other rows.
  void begin_run(int32_t first, const Tensor& others, const int32_t* to);
  /// The state of the `count` rows before layer `i` of the run: x[source[i]], source null: x itself.
  void record(size_t i, const Tensor& x, const int32_t* source, int64_t count);
  /// The state [M, d] before the final norm.
  void record_last(const Tensor& x);

 private:
  /// Fills the wanted states before every layer up to `layer` that is not recorded yet.
  void record_up_to(int32_t layer, const Tensor& x, const int32_t* source, int64_t count);
  void copy_states(const Tensor& x, const int32_t* source, int64_t count, float* values);

  Pass& pass_;
  const std::vector<int32_t>& layers_;
  const int64_t rows_;
  float* const values_;
  int32_t first_ = 0;
  Tensor others_;
  const int32_t* to_ = nullptr;
  int32_t next_ = 0;  ///< the first layer that is not recorded yet
};

}  // namespace mor
