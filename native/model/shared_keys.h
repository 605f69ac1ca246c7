// SharedKeys: the keys and values that later recursions of the block see beside or in place of their own, under the
// shared and hybrid policies (docs/model.md section 5).
#pragma once

#include <vector>

#include "model/layer_run.h"

namespace mor {

/// One buffer for each layer of the block, filled by recursion 1.
struct SharedKeys {
  std::vector<Tensor> k, v, d_k, d_v;  ///< [rows of recursion 1, kv, head_dim]
};
/// No buffers under the recursion_wise policy.
SharedKeys allocate_shared_keys(Pass& pass, int64_t rows);
/// Zeroed gradients of the shared keys.
void allocate_shared_gradients(Pass& pass, SharedKeys& shared);

/// The layers of the block and where their keys come from at recursion r = 1..N. Under hybrid a pass that keeps gives
/// every recursion a copy of its own of the shared keys, because its backward needs what was visible then.
Layers block_layers_at(Pass& pass, int32_t r, SharedKeys& shared);
/// Gives such layers the gradient buffers of the shared keys.
void attach_shared_gradients(const SharedKeys& shared, Layers& layers);

}  // namespace mor
