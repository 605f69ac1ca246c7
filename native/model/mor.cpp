// The whole model: embedding, layers before the body, body, layers after it, head. Must not know of optimisers or
// requests.
#include "model/mor.h"

#include <cstring>

namespace mor {

namespace {

struct ModelActivations {
  ActiveRows all;
  LayerRun before, after;
  BodyActivations body;
  Tensor hidden;  ///< [M, d] entering the final norm
};

LayerRun layers_run(const ModelConfig& config, int32_t first, int32_t count) {
  LayerRun run;
  for (int32_t l = first; l < first + count; ++l) run.unique.push_back(config.unique_layer(l));
  run.keys.resize(run.unique.size());
  return run;
}

/// Embedding to the last layer.
void forward(Pass& pass, const Batch& batch, ModelActivations& kept) {
  const ModelConfig& config = pass.model.config();
  kept.all = all_rows(pass.context, batch.sequences, batch.length);
  const Rows& rows = kept.all.rows;
  Tensor x = pass.arena().tensor(pass.ops().compute_dtype(), rows.count, config.hidden_size, "stream");
  pass.ops().embedding_forward(batch.tokens, pass.model.tensors().embed_tokens, x);
  kept.before = layers_run(config, 0, config.layers_before());
  kept.after = layers_run(config, config.num_hidden_layers - config.layers_after(), config.layers_after());
  const auto through = [&](LayerRun& run) {
    if (run.unique.empty()) return;
    run_forward(pass, rows, x, run);
    x = run.out;
  };
  through(kept.before);
  if (config.body_recursions() > 0) x = body_forward(pass, kept.all, x, kept.body);
  through(kept.after);
  kept.hidden = x;
}

void backward(Pass& pass, const Batch& batch, ModelActivations& kept, const Tensor& d) {
  const Rows& rows = kept.all.rows;
  run_backward(pass, rows, kept.after, d);
  if (pass.model.config().body_recursions() > 0) body_backward(pass, kept.body, d);
  run_backward(pass, rows, kept.before, d);
  pass.ops().embedding_backward(batch.tokens, d, pass.gradients->embed_tokens);
}

/// Final norm; rstd is kept where a backward follows.
Tensor normed(Pass& pass, const ModelActivations& kept, const Tensor& rstd) {
  const Tensor out = pass.arena().tensor(kept.hidden.dtype, kept.hidden.rows(), kept.hidden.columns(), "normed");
  pass.ops().rmsnorm_forward(kept.hidden, nullptr, pass.model.tensors().norm, pass.model.config().rms_norm_eps, {}, out,
                             rstd);
  return out;
}

PassResult result(Pass& pass, const ModelActivations& kept, const Tensor& losses) {
  const ModelConfig& config = pass.model.config();
  PassResult r;
  double sum = 0;
  for (const double loss : read_master(pass.ops(), losses)) sum += loss;
  r.lm_loss = sum / static_cast<double>(std::max<int64_t>(1, losses.rows()));
  const Rows& rows = kept.all.rows;
  const int64_t outside = config.layers_before() + config.layers_after();
  pass.statistics.flops += run_flops(pass, rows, outside, false);
  pass.statistics.flops += 2.0 * config.vocab_size * config.hidden_size * rows.count;
  if (config.body_recursions() > 0) body_statistics(pass, kept.body);
  r.statistics = pass.statistics;
  return r;
}

}  // namespace

PassResult training_pass(const Model& model, Arena& arena, const ModelTensors& gradients, const Batch& batch,
                         PassOptions options) {
  arena.reset();
  options.keep = true;
  Pass pass(model, arena, &gradients, options);
  ModelActivations kept;
  forward(pass, batch, kept);

  Ops& ops = pass.ops();
  const int64_t rows = kept.all.rows.count;
  const Tensor rstd = arena.vector(ops.master_dtype(), rows, "rstd");
  const Tensor losses = arena.vector(ops.master_dtype(), rows, "losses");
  const Tensor x = normed(pass, kept, rstd);
  const Tensor d = arena.tensor(ops.compute_dtype(), rows, x.columns(), "d_stream");
  const Arena::Mark mark = arena.mark();
  const Tensor d_normed = arena.tensor(ops.compute_dtype(), rows, x.columns(), "d_normed");
  ops.cross_entropy_backward(x, model.tensors().lm_head, batch.targets, options.loss_scale / static_cast<double>(rows),
                             losses, d_normed, gradients.lm_head);
  zero(ops, d);
  ops.rmsnorm_backward(d_normed, kept.hidden, model.tensors().norm, rstd, d, gradients.norm);
  arena.release(mark);
  backward(pass, batch, kept, d);
  return result(pass, kept, losses);
}

PassResult evaluation_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options) {
  arena.reset();
  options.keep = false;
  Pass pass(model, arena, nullptr, options);
  ModelActivations kept;
  forward(pass, batch, kept);
  const Tensor losses = arena.vector(pass.ops().master_dtype(), kept.all.rows.count, "losses");
  pass.ops().cross_entropy_forward(normed(pass, kept, {}), model.tensors().lm_head, batch.targets, losses);
  return result(pass, kept, losses);
}

void logits_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options, float* logits,
                 uint8_t* depths) {
  arena.reset();
  options.keep = false;
  Pass pass(model, arena, nullptr, options);
  ModelActivations kept;
  forward(pass, batch, kept);
  const Tensor x = normed(pass, kept, {});
  const int64_t vocab = model.config().vocab_size, rows = x.rows();
  constexpr int64_t kChunk = 256;  // rows whose logits are on the device at a time
  for (int64_t begin = 0; begin < rows; begin += kChunk) {
    const Arena::Mark mark = arena.mark();
    const int64_t n = std::min(kChunk, rows - begin);
    const Tensor chunk = arena.tensor(pass.ops().master_dtype(), n, vocab, "logits");
    pass.ops().linear_forward(x.slice(begin, n), model.tensors().lm_head, {}, chunk);
    download(pass.ops(), chunk, logits + begin * vocab);
    arena.release(mark);
  }
  std::memset(depths, 0, static_cast<size_t>(rows));
  if (model.config().body_recursions() > 0) {
    const std::vector<uint8_t> ran = body_depths(pass, kept.body);
    std::memcpy(depths, ran.data(), ran.size());
  }
}

}  // namespace mor
