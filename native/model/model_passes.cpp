// The whole model: embedding, layers before the block, the block, layers after it, head.
#include "model/model_passes.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "model/hidden_states.h"
#include "model/host_values.h"
#include "ops/counting_ops.h"

namespace mor {

namespace {

struct ModelActivations {
  ActiveRows all;
  LayerRun before, after;
  BodyActivations body;
  Tensor hidden;  ///< [M, d] the input of the final norm
};

/// Embedding to the last layer.
void forward(Pass& pass, const Batch& batch, ModelActivations& kept) {
  const ModelConfig& config = pass.model.config();
  kept.all = all_rows(pass.context, batch.sequences, batch.length);
  const Rows& rows = kept.all.rows;
  Tensor x = pass.arena().tensor(pass.ops().compute_dtype(), rows.count, config.hidden_size, "stream");
  pass.ops().embedding_forward(batch.tokens, pass.model.tensors().embed_tokens, x);
  kept.before.layers = layers_before_block(config);
  kept.after.layers = layers_after_block(config);
  const auto through = [&](LayerRun& run, int32_t first) {
    if (run.layers.unique.empty()) return;
    if (pass.hidden_states != nullptr) pass.hidden_states->begin_run(first, {}, nullptr);
    layers_forward(pass, rows, x, run);
    x = run.out;
  };
  through(kept.before, 0);
  if (pass.rules.block_recurs) x = body_forward(pass, kept.all, x, kept.body);
  through(kept.after, config.num_hidden_layers - config.layers_after());
  kept.hidden = x;
}

void backward(Pass& pass, const Batch& batch, ModelActivations& kept, const Tensor& d) {
  const Rows& rows = kept.all.rows;
  layers_backward(pass, rows, kept.after, d);
  if (pass.rules.block_recurs) body_backward(pass, kept.body, d);
  layers_backward(pass, rows, kept.before, d);
  if (pass.gradients->embed_tokens) pass.ops().embedding_backward(batch.tokens, d, pass.gradients->embed_tokens);
}

int64_t rows_of(const Batch& batch) {
  return static_cast<int64_t>(batch.sequences) * batch.length;
}

/// The final norm of `count` rows of the batch. source [count]: which rows; null: the first ones. rstd [count] master:
/// for the backward, or empty.
Tensor normed(Pass& pass, const ModelActivations& kept, const int32_t* source, int64_t count, const Tensor& rstd) {
  const Tensor out = pass.arena().tensor(kept.hidden.dtype, count, kept.hidden.columns(), "normed");
  pass.ops().rmsnorm_forward(kept.hidden, source, pass.model.tensors().norm, pass.model.config().rms_norm_eps, {}, out,
                             rstd);
  return out;
}

Tensor normed(Pass& pass, const ModelActivations& kept, const Tensor& rstd) {
  return normed(pass, kept, nullptr, kept.hidden.rows(), rstd);
}

/// Targets that the mean loss of a batch is divided by.
double target_count(const Batch& batch) {
  const int64_t count = batch.target_count < 0 ? rows_of(batch) : batch.target_count;
  return static_cast<double>(std::max<int64_t>(1, count));
}

PassReport reported(Pass& pass, const Batch& batch, const ModelActivations& kept) {
  const ModelConfig& config = pass.model.config();
  const Rows& rows = kept.all.rows;
  pass.report.length = batch.length;
  pass.report.tokens = rows.count;
  pass.report.targets = target_count(batch);
  report_layers(pass, rows, config.layers_before() + config.layers_after(), false);
  pass.report.flops += 2.0 * config.vocab_size * config.hidden_size * rows.count;
  if (pass.rules.block_recurs) body_report(pass, kept.body);
  return std::move(pass.report);
}

const int32_t* on_device(Pass& pass, const int32_t* values, int64_t count) {
  int32_t* device = pass.arena().array<int32_t>(count);
  pass.ops().copy_to_device(device, values, static_cast<size_t>(count) * sizeof(int32_t));
  return device;
}

/// Calls body(x, begin) with the final norm x of the rows [begin, begin + x.rows()) of the list, a bounded number at a
/// time. What the body allocates is given back.
template <class Body>
void for_chunks(Pass& pass, const ModelActivations& kept, const std::vector<int32_t>& rows, const Body& body) {
  constexpr int64_t kChunk = 256;
  const auto count = static_cast<int64_t>(rows.size());
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    pass.context.may_interrupt();
    const ArenaScope scope(pass.arena());
    const int64_t n = std::min(kChunk, count - begin);
    body(normed(pass, kept, on_device(pass, rows.data() + begin, n), n, {}), begin);
  }
}

/// The input of the teacher's output projection, for every row of the batch; nothing else of its pass is kept.
Tensor teacher_forward(Pass& student, const Workspace& workspace, const Batch& batch) {
  const Model& teacher = *student.options.distillation.teacher;
  const Tensor out =
      student.arena().tensor(student.ops().compute_dtype(), rows_of(batch), teacher.config().hidden_size, "teacher");
  const ArenaScope scope(student.arena());
  PassOptions options;
  options.routing = Routing::threshold;
  Workspace own = workspace;
  own.host = &student.model;
  Pass pass(teacher, own, nullptr, options, 0);
  ModelActivations kept;
  forward(pass, batch, kept);
  pass.ops().rmsnorm_forward(kept.hidden, nullptr, teacher.tensors().norm, teacher.config().rms_norm_eps, {}, out, {});
  const PassReport report = reported(pass, batch, kept);
  student.report.teacher_flops = report.flops;
  student.report.teacher_seen = report.seen;
  return out;
}

/// The losses of the targets and the gradient of x, the input of the output projection.
void target_losses(Pass& pass, const Batch& batch, const Tensor& x, const Tensor& teacher_x, const Tensor& d_x) {
  const Tensor &weight = pass.model.tensors().lm_head, &d_weight = pass.gradients->lm_head;
  const double scale = pass.options.loss_scale / target_count(batch);
  if (!teacher_x) {
    pass.ops().cross_entropy_backward(x, weight, batch.targets, scale, pass.report.losses, d_x, d_weight);
    return;
  }
  const Distillation& distillation = pass.options.distillation;
  pass.report.distillation_weight = distillation.weight;
  const DistillationParams params{distillation.temperature, (1 - distillation.weight) * scale,
                                  distillation.weight * scale};
  pass.ops().distillation(x, weight, teacher_x, distillation.teacher->tensors().lm_head, batch.targets, params,
                          pass.report.losses, pass.report.divergences, d_x, d_weight);
}

}  // namespace

PassReport training_pass(const Model& model, const Workspace& workspace, const ModelTensors& gradients,
                         const Batch& batch, PassOptions options) {
  Arena& arena = workspace.activations;
  arena.reset();
  options.keep = true;
  const int64_t rows = rows_of(batch);
  Pass pass(model, workspace, &gradients, options, rows);
  Tensor teacher_x;
  if (options.distillation.teacher != nullptr) teacher_x = teacher_forward(pass, workspace, batch);
  ModelActivations kept;
  forward(pass, batch, kept);

  Ops& ops = pass.ops();
  const Tensor rstd = arena.vector(ops.master_dtype(), rows, "rstd");
  const Tensor x = normed(pass, kept, rstd);
  const Tensor d = arena.tensor(ops.compute_dtype(), rows, x.columns(), "d_stream");
  {
    const ArenaScope scope(arena);
    const Tensor d_normed = arena.tensor(ops.compute_dtype(), rows, x.columns(), "d_normed");
    target_losses(pass, batch, x, teacher_x, d_normed);
    zero(ops, d);
    ops.rmsnorm_backward(d_normed, kept.hidden, model.tensors().norm, rstd, d, gradients.norm);
  }
  backward(pass, batch, kept, d);
  return reported(pass, batch, kept);
}

PassReport evaluation_pass(const Model& model, const Workspace& workspace, const Batch& batch, PassOptions options) {
  workspace.activations.reset();
  options.keep = false;
  Pass pass(model, workspace, nullptr, options, rows_of(batch));
  ModelActivations kept;
  forward(pass, batch, kept);
  pass.ops().cross_entropy_forward(normed(pass, kept, {}), model.tensors().lm_head, batch.targets, pass.report.losses);
  return reported(pass, batch, kept);
}

bool waits_for_counts(const ModelConfig& config, const Distillation& distillation) {
  if (config.router.type == RouterType::token_choice || config.router.selects_by_threshold) return true;
  return distillation.teacher != nullptr && distillation.teacher->config().routed();
}

PassMemory count_memory(const Ops& device, const std::function<void(const Workspace& workspace)>& work) {
  CountingOps counting(device.compute_dtype(), device.master_dtype());
  Arena activations(counting), report(counting);
  work({counting, activations, report});
  return {activations.peak(), report.peak()};
}

void inference_pass(const Model& model, Arena& arena, const Batch& batch, PassOptions options,
                    const InferenceOutputs& outputs) {
  arena.reset();
  options.keep = false;
  Pass pass(model, {model.ops(), arena, arena}, nullptr, options, 0);
  HiddenStates hidden_states(pass, outputs.layers, rows_of(batch), outputs.hidden_states);
  if (!outputs.layers.empty()) pass.hidden_states = &hidden_states;
  ModelActivations kept;
  forward(pass, batch, kept);
  if (!outputs.layers.empty()) hidden_states.record_last(kept.hidden);
  for_chunks(pass, kept, outputs.logits_rows, [&](const Tensor& x, int64_t begin) {
    const int64_t vocab = model.config().vocab_size;
    const Tensor logits = arena.tensor(pass.ops().master_dtype(), x.rows(), vocab, "logits");
    pass.ops().linear_forward(x, model.tensors().lm_head, {}, logits);
    download(pass.ops(), logits, outputs.logits + begin * vocab);
  });
  for_chunks(pass, kept, outputs.target_rows, [&](const Tensor& x, int64_t begin) {
    const int32_t* targets = on_device(pass, outputs.targets.data() + begin, x.rows());
    const Tensor losses = arena.vector(pass.ops().master_dtype(), x.rows(), "losses");
    pass.ops().cross_entropy_forward(x, model.tensors().lm_head, targets, losses);
    download(pass.ops(), losses, outputs.logprobs + begin);
    std::transform(outputs.logprobs + begin, outputs.logprobs + begin + x.rows(), outputs.logprobs + begin,
                   std::negate<>());
  });
  std::memset(outputs.depths, pass.rules.depth(0), static_cast<size_t>(rows_of(batch)));
  if (pass.rules.block_recurs) {
    const std::vector<uint8_t> ran = body_depths(pass, kept.body);
    std::memcpy(outputs.depths, ran.data(), ran.size());
  }
}

}  // namespace mor
