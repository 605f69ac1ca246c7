// Sampler: final norm, head, draw. Must not know of the KV cache or of recursions.
#include "engine/sampler.h"

namespace mor {

void Sampler::run(Arena& arena, const Tensor& x, const int32_t* source, const std::vector<Sequence*>& sequences,
                  StageOutcome& outcome) {
  const int64_t n = static_cast<int64_t>(sequences.size());
  Ops& ops = model_.ops();
  const ModelConfig& config = model_.config();
  const Tensor normed = arena.tensor(ops.compute_dtype(), n, config.hidden_size, "normed");
  const Tensor logits = arena.tensor(ops.master_dtype(), n, config.vocab_size, "logits");
  ops.rmsnorm_forward(x, source, model_.tensors().norm, config.rms_norm_eps, {}, normed, {});
  ops.linear_forward(normed, model_.tensors().lm_head, {}, logits);

  params_.clear();
  bool logprobs = false;
  for (const Sequence* s : sequences) {
    const Request& r = s->request;
    params_.push_back({r.temperature, r.top_k, r.top_p, r.seed, static_cast<uint64_t>(s->generated())});
    logprobs = logprobs || r.logprobs;
  }
  outcome.token.resize(sequences.size());
  outcome.logprob.resize(logprobs ? sequences.size() : 0);
  float* logprob = logprobs ? outcome.logprob.data() : nullptr;
  try {
    ops.sample(logits, params_.data(), outcome.token.data(), logprob);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::NON_FINITE) throw;
    // Some row is to blame: the others must get what they would get alone.
    for (int64_t i = 0; i < n; ++i) {
      try {
        ops.sample(logits.slice(i, 1), &params_[static_cast<size_t>(i)], &outcome.token[static_cast<size_t>(i)],
                   logprobs ? logprob + i : nullptr);
      } catch (const Error& alone) {
        if (alone.code() != ErrorCode::NON_FINITE) throw;
        outcome.token[static_cast<size_t>(i)] = -1;
      }
    }
  }
}

}  // namespace mor
