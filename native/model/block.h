// One decoder layer (docs/model.md section 1) over packed rows, forward and backward. The same function trains,
// prefills and decodes. Must not know of recursions, routers or batches.
#pragma once

#include <functional>

#include "core/arena.h"
#include "model/config.h"
#include "model/parameters.h"

namespace mor {

/// Where a layer's keys and values come from.
enum class KeySource : uint8_t {
  own,    ///< the rows attend to the keys and values that they project: key i is that of row i
  cache,  ///< the rows write their keys and values into `k` and `v` at rows.slot, and then attend to `k` and `v`
  given,  ///< the rows project queries only, and attend to `k` and `v` (shared KV, paper section 2.2.2)
};
struct LayerKeys {
  KeySource source = KeySource::own;
  Tensor k, v;  ///< [slots, kv, head_dim]; unused for own
  Tensor d_k,
      d_v;  ///< backward only: gradients of k and v, accumulated; `cache` reads those at rows.slot and zeroes them
};

/// What a layer keeps for its backward. In recompute mode only `x` survives the forward.
struct LayerActivations {
  Tensor x;                                   ///< [R, d] residual stream entering the layer
  Tensor input_rstd, input_normed;            ///< [R], [R, d]
  Tensor projected;                           ///< only with qk_norm: [R, q+2kv] or [R, q] before norms and rotary
  Tensor qkv;                                 ///< [R, q+2kv] after rotary; [R, q] unless the keys are the rows' own
  Tensor attention, lse;                      ///< [R, q], [R, h]
  Tensor middle, middle_rstd, middle_normed;  ///< [R, d] stream between attention and feed-forward
  Tensor gate_up, activated;                  ///< [R, 2f], [R, f]
};

/// What every layer call shares.
struct LayerContext {
  Ops& ops;
  Arena& arena;
  const ModelConfig& config;
  Tensor rotary_table;                        ///< [positions, head_dim] master
  const std::function<void()>& interruption;  ///< called before every layer; throws to end the pass there
  void may_interrupt() const {
    if (interruption) interruption();
  }
};

/// y = layer(x), both [R, d] compute. With `stream`, x is an output too: its row i is read from stream[rows.source[i]],
/// so that the first norm gathers the rows of a recursion. Without `keep` nothing is saved and y must be x: the
/// residual stream is updated in place. If y is empty, only what `keep` gets is computed: a backward that runs the
/// layer again needs no more.
void layer_forward(const LayerContext& context, const LayerTensors& weights, const Rows& rows, const Tensor& stream,
                   const Tensor& x, const LayerKeys& keys, const Tensor& y, LayerActivations* keep);

/// Turns d, the gradient of y, into the gradient of x, in place; gradients of the weights accumulate.
void layer_backward(const LayerContext& context, const LayerTensors& weights, const LayerTensors& gradients,
                    const Rows& rows, const LayerActivations& kept, const LayerKeys& keys, const Tensor& d);

}  // namespace mor
