// SharedKeys: the keys and values that later recursions of the block see beside or in place of their own, under the
// shared and hybrid policies (docs/model.md section 5).
#pragma once

#include <vector>

#include "model/layer_run.h"

namespace mor {

/// Keys and values of every layer of the block, each [rows of recursion 1, kv, head_dim].
struct KeyBuffers {
  std::vector<Tensor> k, v;
};
struct SharedKeys {
  KeyBuffers first, d_first;  ///< what recursion 1 projects, and its gradient
  KeyBuffers shown;  ///< hybrid: what the last recursion after the first shows, `first` with its own tokens' entries
};
/// No buffers under the recursion_wise policy.
SharedKeys allocate_shared_keys(Pass& pass, int64_t rows);
/// Zeroed gradients of what recursion 1 projects.
void allocate_shared_gradients(Pass& pass, SharedKeys& shared);

/// The layers of the block and where their keys come from at recursion r = 1..N. Under hybrid a pass that keeps gives
/// every recursion buffers of its own, because its backward needs what was visible then.
Layers block_layers_at(Pass& pass, int32_t r, SharedKeys& shared);
/// The backward of a recursion's layers, as layers_backward; `shared` collects the gradients of the keys of
/// recursion 1.
void block_layers_backward(Pass& pass, int32_t r, const Rows& rows, const SharedKeys& shared, LayerRun& run,
                           const Tensor& d);

}  // namespace mor
