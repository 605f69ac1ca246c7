// sample: specification.
#pragma once

#include <algorithm>
#include <vector>

#include "core/rng.h"
#include "ops/checks/sample.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// Non-finite logits are out of the draw. The others in falling order (ties: smaller id first) are cut to the top_k
/// first, then to the shortest prefix that holds top_p of what is left at this temperature. The survivors are laid side
/// by side in order of their ids, each as wide as its probability, and one uniform number of the stream
/// philox(seed, 0, counter) points at one of them.
template <class T>
void RefOps<T>::sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
                       TokenLogprob* top) {
  check_sample(logits, params);
  for (int64_t i = 0; i < logits.rows(); ++i) {
    const SamplingParams& p = params[i];
    const auto logit = [&](int32_t id) { return static_cast<double>(real(View<T>(logits)(i, id))); };
    std::vector<int32_t> order;
    for (int32_t id = 0; id < logits.columns(); ++id)
      if (std::isfinite(logit(id))) order.push_back(id);
    check_finite_logits(!order.empty(), i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
    const double most = logit(order[0]);
    double sum = 0;
    for (int32_t id : order) sum += std::exp(logit(id) - most);
    const auto logprob_of = [&](int32_t id) { return static_cast<float>(logit(id) - most - std::log(sum)); };
    if (top != nullptr) {
      for (size_t t = 0; t < static_cast<size_t>(p.top_logprobs); ++t)
        top[i * kMostTopLogprobs + static_cast<int64_t>(t)] =
            t < order.size() ? TokenLogprob{order[t], logprob_of(order[t])} : TokenLogprob{};
    }
    token[i] = order[0];
    if (p.temperature > 0) {
      const auto weight = [&](int32_t id) { return std::exp((logit(id) - most) / double{p.temperature}); };
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
        if (passed <= point && weight(id) > 0) token[i] = id;
        passed += weight(id);
      }
    }
    if (logprob != nullptr) logprob[i] = logprob_of(token[i]);
  }
}

}  // namespace mor::ref
