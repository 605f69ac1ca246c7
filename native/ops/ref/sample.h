// sample: specification.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "ops/checks/sample.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// The ids of the finite ones among the logits, in falling order; ties: smaller id first.
inline std::vector<int32_t> falling_order(const std::vector<double>& logits) {
  std::vector<int32_t> order;
  for (size_t id = 0; id < logits.size(); ++id)
    if (std::isfinite(logits[id])) order.push_back(static_cast<int32_t>(id));
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return order;
}

/// Non-finite logits are out of the draw. The others in falling order are cut to those that have at least min_p of the
/// first one's probability at this temperature, then to the top_k, then to the shortest prefix that holds top_p of what
/// is left. The survivors are laid side by side in order of their ids, each as wide as its probability, and one uniform
/// number of the stream philox(seed, 0, counter) points at one of them.
inline int32_t draw(const std::vector<double>& logits, const SamplingParams& p) {
  std::vector<int32_t> order = falling_order(logits);
  if (order.empty()) return -1;
  int32_t token = order[0];
  if (p.temperature <= 0) return token;
  const double most = logits[static_cast<size_t>(token)];
  const auto weight = [&](int32_t id) {
    return std::exp((logits[static_cast<size_t>(id)] - most) / double{p.temperature});
  };
  while (weight(order.back()) < double{p.min_p}) order.pop_back();
  if (p.top_k > 0 && p.top_k < static_cast<int32_t>(order.size())) order.resize(static_cast<size_t>(p.top_k));
  double total = 0, mass = 0;
  for (int32_t id : order) total += weight(id);
  size_t kept = 0;
  while (kept < order.size() && (kept == 0 || p.top_p >= 1 || mass < double{p.top_p} * total))
    mass += weight(order[kept++]);
  order.resize(kept);
  std::sort(order.begin(), order.end());
  const double point = double{uniform_from_bits(philox(p.seed, 0, p.counter).v[0])} * mass;
  double passed = 0;
  for (int32_t id : order) {
    if (passed <= point && weight(id) > 0) token = id;
    passed += weight(id);
  }
  return token;
}

template <class T>
void RefOps<T>::sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
                       TokenLogprob* top) {
  check_sample(logits, params);
  for (int64_t i = 0; i < logits.rows(); ++i) {
    const SamplingParams& p = params[i];
    std::vector<double> logit(static_cast<size_t>(logits.columns()));
    for (size_t id = 0; id < logit.size(); ++id)
      logit[id] = static_cast<double>(real(View<T>(logits)(i, static_cast<int64_t>(id))));
    std::vector<double> edited = logit;
    for (int32_t j = 0; j < p.edit_count; ++j) {
      const LogitEdit& edit = p.edits[j];
      double& l = edited[static_cast<size_t>(edit.token)];
      l += double{edit.bias};
      l = l > 0 ? l / double{edit.repetition} : l * double{edit.repetition};
      l -= double{edit.penalty};
    }
    const std::vector<int32_t> order = falling_order(logit);
    const bool has_softmax = std::all_of(logit.begin(), logit.end(), [](double l) { return l < HUGE_VAL; });
    check_finite_logits(!order.empty() && (p.given < 0 || has_softmax), i);
    token[i] = p.given >= 0 ? p.given : draw(edited, p);
    check_finite_logits(token[i] >= 0, i);

    const double most = logit[static_cast<size_t>(order[0])];
    double sum = 0;
    for (int32_t id : order) sum += std::exp(logit[static_cast<size_t>(id)] - most);
    const auto logprob_of = [&](int32_t id) {
      const double l = logit[static_cast<size_t>(id)];
      return std::isfinite(l) ? static_cast<float>(l - most - std::log(sum)) : -std::numeric_limits<float>::infinity();
    };
    if (logprob != nullptr) logprob[i] = logprob_of(token[i]);
    if (top == nullptr) continue;
    for (size_t t = 0; t < static_cast<size_t>(p.top_logprobs); ++t)
      top[i * kMostTopLogprobs + static_cast<int64_t>(t)] =
          t < order.size() ? TokenLogprob{order[t], logprob_of(order[t])} : TokenLogprob{};
  }
}

}  // namespace mor::ref
