// Rows of logits for the tests of sample, and what is drawn from them.
#pragma once

#include <algorithm>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "ops/checks/sample.h"
#include "test/ops/harness.h"

namespace mor::test {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Drawn {
  std::vector<int32_t> token;
  std::vector<float> logprob;
  std::vector<TokenLogprob> top;  ///< [rows, kMostTopLogprobs], poisoned
};
inline constexpr TokenLogprob kPoison = {-7, -7};

inline Drawn sample(Ops& ops, const Array& logits, const std::vector<SamplingParams>& params) {
  Buffer l(ops, ops.master_dtype(), logits.rows, logits.columns, "logits");
  l.set(logits);
  Drawn drawn{std::vector<int32_t>(params.size(), -7), std::vector<float>(params.size(), -7),
              std::vector<TokenLogprob>(params.size() * kMostTopLogprobs, kPoison)};
  ops.sample(l.tensor(), params.data(), drawn.token.data(), drawn.logprob.data(), drawn.top.data());
  return drawn;
}

inline Array row(const std::vector<double>& logits) {
  Array a(1, static_cast<int64_t>(logits.size()));
  a.values = logits;
  return a;
}

inline SamplingParams with(float temperature, int32_t top_k, float top_p, uint64_t seed = 1, uint64_t counter = 0) {
  SamplingParams p;
  p.temperature = temperature;
  p.top_k = top_k;
  p.top_p = top_p;
  p.seed = seed;
  p.counter = counter;
  return p;
}

/// About one token in `apart` gets an edit.
inline std::vector<LogitEdit> random_edits(int64_t vocabulary, int32_t apart, std::mt19937& generator) {
  std::vector<LogitEdit> edits;
  std::uniform_real_distribution<float> uniform(-2, 2);
  for (int32_t token = 0; token < vocabulary; ++token) {
    if (static_cast<int32_t>(generator()) % apart != 0) continue;
    LogitEdit edit;
    edit.token = token;
    if (generator() % 2 == 0)
      edit.bias = generator() % 4 == 0 ? -std::numeric_limits<float>::infinity() : uniform(generator);
    if (generator() % 2 == 0) edit.repetition = 1 + uniform(generator) / 4;
    if (generator() % 2 == 0) edit.penalty = uniform(generator);
    edits.push_back(edit);
  }
  return edits;
}

inline SamplingParams edited_by(SamplingParams params, const std::vector<LogitEdit>& edits) {
  params.edits = edits.data();
  params.edit_count = static_cast<int32_t>(edits.size());
  return params;
}

/// The tokens of `draws` rows that have the same logits and the counters 0, 1, …
inline std::vector<int32_t> draw_many(Ops& ops, const std::vector<double>& logits, SamplingParams params, int draws) {
  Array rows(draws, static_cast<int64_t>(logits.size()));
  std::vector<SamplingParams> each;
  for (int i = 0; i < draws; ++i) {
    std::copy(logits.begin(), logits.end(), rows.values.begin() + static_cast<int64_t>(i) * rows.columns);
    params.counter = static_cast<uint64_t>(i);
    each.push_back(params);
  }
  return sample(ops, rows, each).token;
}

/// Runs `body` on the reference and on every device.
inline void for_each_ops(const std::function<void(Ops& ops)>& body) {
  RefOps<float> reference;
  body(reference);
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    body(*subject.make());
  }
}

}  // namespace mor::test
