// One decoder layer, forward and backward.
#include "model/block.h"

#include <optional>

namespace mor {

namespace {

/// The projections that a layer uses: of queries alone where keys and values are given.
QkvTensors projections(const ModelConfig& config, const LayerTensors& tensors, const LayerKeys& keys) {
  return keys.source == KeySource::given ? tensors.qkv.queries_only(config.query_size()) : tensors.qkv;
}

/// Not of a frozen weight, whose gradient is an empty tensor.
void backward_weight(Ops& ops, const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  if (d_weight) ops.linear_backward_weight(d_y, x, d_weight);
}

}  // namespace

void layer_forward(const LayerContext& context, const LayerTensors& weights, const Rows& rows, const Tensor& stream,
                   const Tensor& x, const LayerKeys& keys, const Tensor& y, LayerActivations* keep) {
  context.may_interrupt();
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const ModelConfig& config = context.config;
  const int64_t n = rows.count, d = config.hidden_size, f = config.intermediate_size;
  const DType compute = ops.compute_dtype(), master = ops.master_dtype();
  const bool own = keys.source == KeySource::own, queries_only = keys.source == KeySource::given;
  std::optional<ArenaScope> scratch;
  if (keep == nullptr) scratch.emplace(arena);

  LayerActivations a;
  a.x = x;
  if (keep != nullptr) {
    a.input_rstd = arena.vector(master, n, "input_rstd");
    a.middle_rstd = arena.vector(master, n, "middle_rstd");
    a.lse = arena.tensor(master, n, config.num_attention_heads, "lse");
  }
  a.input_normed = arena.tensor(compute, n, d, "input_normed");
  const QkvTensors qkv = projections(config, weights, keys);
  if (keep != nullptr && qkv.q_norm) a.projected = arena.tensor(compute, n, qkv.weight.rows(), "projected");
  a.qkv = arena.tensor(compute, n, own ? config.qkv_size() : config.query_size(), "qkv");
  a.attention = arena.tensor(compute, n, config.query_size(), "attention");
  a.middle = keep != nullptr ? arena.tensor(compute, n, d, "middle") : x;
  a.middle_normed = keep != nullptr ? arena.tensor(compute, n, d, "middle_normed") : a.input_normed;
  if (keep != nullptr) a.gate_up = arena.tensor(compute, n, 2 * f, "gate_up");
  a.activated = arena.tensor(compute, n, f, "activated");

  if (stream) {
    ops.rmsnorm_forward(stream, rows.source, weights.input_layernorm, config.rms_norm_eps, x, a.input_normed,
                        a.input_rstd);
  } else {
    ops.rmsnorm_forward(x, nullptr, weights.input_layernorm, config.rms_norm_eps, {}, a.input_normed, a.input_rstd);
  }
  const QkvHeads p = qkv_heads(a.qkv, config.query_size(), config.head_dim);
  const Tensor k = own ? p.k : keys.k, v = own ? p.v : keys.v;
  ops.qkv_forward(a.input_normed, qkv, config.rms_norm_eps, rows.position, context.rotary_table, p.q,
                  queries_only ? Tensor{} : k, queries_only ? Tensor{} : v, own ? nullptr : rows.slot, a.projected);
  ops.attention_forward(p.q, k, v, rows, a.attention.heads(config.head_dim), a.lse);
  ops.linear_forward(a.attention, weights.o_proj, x, a.middle);
  ops.rmsnorm_forward(a.middle, nullptr, weights.post_attention_layernorm, config.rms_norm_eps, {}, a.middle_normed,
                      a.middle_rstd);
  ops.swiglu_forward(a.middle_normed, weights.gate_up, a.gate_up, a.activated);
  if (y) ops.linear_forward(a.activated, weights.down_proj, a.middle, y);

  if (keep != nullptr) *keep = a;
}

void layer_backward(const LayerContext& context, const LayerTensors& weights, const LayerTensors& gradients,
                    const Rows& rows, const LayerActivations& kept, const LayerKeys& keys, const Tensor& d) {
  context.may_interrupt();
  Ops& ops = context.ops;
  Arena& arena = context.arena;
  const ModelConfig& config = context.config;
  const int64_t n = rows.count, f = config.intermediate_size;
  const DType compute = ops.compute_dtype();
  const bool own = keys.source == KeySource::own;
  const ArenaScope scope(arena);
  const Tensor d_normed = arena.tensor(compute, n, config.hidden_size, "d_normed");

  {  // Feed-forward: y = middle + down(swiglu(gate_up(norm(middle)))).
    const ArenaScope feed_forward(arena);
    const Tensor d_activated = arena.tensor(compute, n, f, "d_activated");
    const Tensor d_gate_up = arena.tensor(compute, n, 2 * f, "d_gate_up");
    backward_weight(ops, d, kept.activated, gradients.down_proj);
    ops.linear_backward_input(d, weights.down_proj, d_activated);
    ops.swiglu_backward(d_activated, kept.gate_up, d_gate_up);
    backward_weight(ops, d_gate_up, kept.middle_normed, gradients.gate_up);
    ops.linear_backward_input(d_gate_up, weights.gate_up, d_normed);
    ops.rmsnorm_backward(d_normed, kept.middle, weights.post_attention_layernorm, kept.middle_rstd, d,
                         gradients.post_attention_layernorm);
  }

  // Attention: middle = x + o(attention(q, k, v)).
  const Tensor d_attention = arena.tensor(compute, n, config.query_size(), "d_attention");
  backward_weight(ops, d, kept.attention, gradients.o_proj);
  ops.linear_backward_input(d, weights.o_proj, d_attention);
  const QkvTensors qkv = projections(config, weights, keys), d_weights = projections(config, gradients, keys);
  const Tensor d_qkv = arena.tensor(compute, n, qkv.weight.rows(), "d_qkv");
  if (own) zero(ops, d_qkv);
  const QkvHeads p = qkv_heads(kept.qkv, config.query_size(), config.head_dim);
  const QkvHeads dp = qkv_heads(d_qkv, config.query_size(), config.head_dim);
  ops.attention_backward(d_attention.heads(config.head_dim), p.q, own ? p.k : keys.k, own ? p.v : keys.v,
                         kept.attention.heads(config.head_dim), kept.lse, rows, dp.q, own ? dp.k : keys.d_k,
                         own ? dp.v : keys.d_v);
  if (keys.source == KeySource::cache) {
    ops.kv_write_backward(keys.d_k, rows.slot, dp.k);
    ops.kv_write_backward(keys.d_v, rows.slot, dp.v);
  }
  ops.qkv_backward(dp.q, dp.k, dp.v, kept.projected, qkv, config.rms_norm_eps, rows.position, context.rotary_table,
                   d_weights);
  backward_weight(ops, d_qkv, kept.input_normed, d_weights.weight);
  ops.linear_backward_input(d_qkv, qkv.weight, d_normed);
  ops.rmsnorm_backward(d_normed, kept.x, weights.input_layernorm, kept.input_rstd, d, gradients.input_layernorm);
}

}  // namespace mor
