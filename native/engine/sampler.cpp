// Sampler: final norm, head and draw.
#include "engine/sampler.h"

#include <algorithm>

namespace mor {

namespace {

constexpr int64_t kPieceRows = 64;  // of logits beyond those that a token is sampled from

SamplingParams draw_params(const Sequence& s) {
  const Request& r = s.request;
  const std::vector<LogitEdit>& edits = s.logit_edits.list();
  return {.temperature = static_cast<float>(r.temperature),
          .top_k = r.top_k,
          .top_p = static_cast<float>(r.top_p),
          .min_p = static_cast<float>(r.min_p),
          .seed = r.seed,
          .counter = static_cast<uint64_t>(s.generated()),
          .top_logprobs = r.top_logprobs,
          .edits = edits.data(),
          .edit_count = static_cast<int32_t>(edits.size())};
}

}  // namespace

void Sampler::begin(Arena& arena, int64_t rows, bool whole, const StagePlan& plan) {
  const int64_t piece = whole ? rows : std::min(rows, std::max(std::ssize(plan.sampled), kPieceRows));
  normed_ = arena.tensor(model_.ops().compute_dtype(), piece, model_.config().hidden_size, "normed");
  logits_ = arena.tensor(model_.ops().master_dtype(), piece, model_.config().vocab_size, "logits");
  params_.clear();
  logprobs_ = !plan.scored.empty();
  for (const Sequence* s : plan.sampled) {
    params_.push_back(draw_params(*s));
    logprobs_ = logprobs_ || s->request.logprobs;
  }
  for (size_t i = 0; i < plan.scored.size(); ++i) {
    const Sequence& s = *plan.scored[i];
    const auto row = static_cast<size_t>(plan.last[plan.sampled.size() + i]);
    params_.push_back(
        {.top_logprobs = s.request.prompt_logprobs, .given = s.tokens[static_cast<size_t>(plan.position[row]) + 1]});
  }
  top_logprobs_ = std::any_of(params_.begin(), params_.end(), [](const auto& p) { return p.top_logprobs > 0; });
}

void Sampler::launch(const Tensor& x, const int32_t* source) {
  Ops& ops = model_.ops();
  ops.rmsnorm_forward(x, source, model_.tensors().norm, model_.config().rms_norm_eps, {}, normed_, {});
  ops.linear_forward(normed_, model_.tensors().lm_head, {}, logits_);
}

void Sampler::collect(const Tensor& x, const int32_t* source, StageOutcome& outcome) {
  const auto rows = std::ssize(params_);
  outcome.token.resize(params_.size());
  outcome.logprob.resize(logprobs_ ? params_.size() : 0);
  outcome.top_logprob.resize(top_logprobs_ ? params_.size() * kMostTopLogprobs : 0);
  const int64_t piece = logits_.rows();
  for (int64_t first = 0; first < rows; first += piece) {
    const int64_t count = std::min(piece, rows - first);
    if (first > 0) {
      normed_ = normed_.slice(0, count);
      logits_ = logits_.slice(0, count);
      launch(x, source + first);
    }
    sample(first, count, outcome);
  }
}

/// Draws from the first `count` rows of logits, which are those of params_ from `first` on.
void Sampler::sample(int64_t first, int64_t count, StageOutcome& outcome) {
  const auto draw = [&](int64_t row, int64_t n) {
    const auto at = static_cast<size_t>(first + row);
    model_.ops().sample(logits_.slice(row, n), &params_[at], &outcome.token[at],
                        logprobs_ ? &outcome.logprob[at] : nullptr,
                        top_logprobs_ ? &outcome.top_logprob[at * kMostTopLogprobs] : nullptr);
  };
  try {
    draw(0, count);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::NON_FINITE) throw;
    // Logits of some rows are not finite. Each row is drawn alone, so that the others get what they would get alone.
    for (int64_t row = 0; row < count; ++row) {
      try {
        draw(row, 1);
      } catch (const Error& alone) {
        if (alone.code() != ErrorCode::NON_FINITE) throw;
        outcome.token[static_cast<size_t>(first + row)] = -1;
      }
    }
  }
}

}  // namespace mor
