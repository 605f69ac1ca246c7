// Sampler: final norm, head and draw.
#include "engine/sampler.h"

namespace mor {

void Sampler::begin(Arena& arena, int64_t rows, const std::vector<Sequence*>& sequences) {
  normed_ = arena.tensor(model_.ops().compute_dtype(), rows, model_.config().hidden_size, "normed");
  logits_ = arena.tensor(model_.ops().master_dtype(), rows, model_.config().vocab_size, "logits");
  params_.clear();
  logprobs_ = top_logprobs_ = false;
  for (const Sequence* s : sequences) {
    const Request& r = s->request;
    const std::vector<LogitEdit>& edits = s->logit_edits.list();
    params_.push_back({.temperature = r.temperature,
                       .top_k = r.top_k,
                       .top_p = r.top_p,
                       .min_p = r.min_p,
                       .seed = r.seed,
                       .counter = static_cast<uint64_t>(s->generated()),
                       .top_logprobs = r.top_logprobs,
                       .edits = edits.data(),
                       .edit_count = static_cast<int32_t>(edits.size())});
    logprobs_ = logprobs_ || r.logprobs;
    top_logprobs_ = top_logprobs_ || r.top_logprobs > 0;
  }
}

void Sampler::launch(const Tensor& x, const int32_t* source) {
  Ops& ops = model_.ops();
  ops.rmsnorm_forward(x, source, model_.tensors().norm, model_.config().rms_norm_eps, {}, normed_, {});
  ops.linear_forward(normed_, model_.tensors().lm_head, {}, logits_);
}

void Sampler::collect(StageOutcome& outcome) {
  const size_t n = params_.size();
  Ops& ops = model_.ops();
  outcome.token.resize(n);
  outcome.logprob.resize(logprobs_ ? n : 0);
  outcome.top_logprob.resize(top_logprobs_ ? n * kMostTopLogprobs : 0);
  float* logprob = logprobs_ ? outcome.logprob.data() : nullptr;
  TokenLogprob* top = top_logprobs_ ? outcome.top_logprob.data() : nullptr;
  try {
    ops.sample(logits_.slice(0, static_cast<int64_t>(n)), params_.data(), outcome.token.data(), logprob, top);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::NON_FINITE) throw;
    // Logits of some rows are not finite. Each row is drawn alone, so that the others get what they would get alone.
    for (size_t i = 0; i < n; ++i) {
      try {
        ops.sample(logits_.slice(static_cast<int64_t>(i), 1), &params_[i], &outcome.token[i],
                   logprobs_ ? logprob + i : nullptr, top_logprobs_ ? top + i * kMostTopLogprobs : nullptr);
      } catch (const Error& alone) {
        if (alone.code() != ErrorCode::NON_FINITE) throw;
        outcome.token[i] = -1;
      }
    }
  }
}

}  // namespace mor
