// LogitEdits: a sorted list that each generated token changes in one place.
#include "engine/logit_edits.h"

#include <algorithm>
#include <limits>

namespace mor {

LogitEdits::LogitEdits(const Request& request)
    : presence_penalty_(request.presence_penalty),
      frequency_penalty_(request.frequency_penalty),
      repetition_penalty_(request.repetition_penalty),
      min_tokens_(request.min_tokens) {
  std::vector<int32_t> tokens;
  for (const TokenBias& bias : request.logit_bias) tokens.push_back(bias.token);
  if (repetition_penalty_ != 1) tokens.insert(tokens.end(), request.prompt.begin(), request.prompt.end());
  if (min_tokens_ > 0) tokens.insert(tokens.end(), request.stop.begin(), request.stop.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  counts_.resize(tokens.size());
  for (const int32_t token : tokens) list_.push_back({.token = token});

  for (const TokenBias& bias : request.logit_bias) list_[place(bias.token)].bias += bias.bias;
  if (repetition_penalty_ != 1)
    for (const int32_t token : request.prompt) list_[place(token)].repetition = repetition_penalty_;
  if (min_tokens_ > 0)
    for (const int32_t token : request.stop) {
      float& bias = list_[place(token)].bias;
      if (std::isinf(bias)) continue;  // the token is named twice
      banned_.push_back({token, bias});
      bias = -std::numeric_limits<float>::infinity();
    }
}

void LogitEdits::add(int32_t token) {
  if (++generated_ == min_tokens_)
    for (const TokenBias& bias : banned_) list_[place(bias.token)].bias = bias.bias;
  if (presence_penalty_ == 0 && frequency_penalty_ == 0 && repetition_penalty_ == 1) return;
  const size_t at = place(token);
  const float count = static_cast<float>(++counts_[at]);
  list_[at].repetition = repetition_penalty_;
  list_[at].penalty = presence_penalty_ + frequency_penalty_ * count;
}

/// Where the edit of `token` is in the list; it is added if there is none.
size_t LogitEdits::place(int32_t token) {
  const auto found = std::lower_bound(list_.begin(), list_.end(), token,
                                      [](const LogitEdit& edit, int32_t other) { return edit.token < other; });
  const auto at = found - list_.begin();
  if (found == list_.end() || found->token != token) {
    counts_.insert(counts_.begin() + at, 0);
    list_.insert(found, {.token = token});
  }
  return static_cast<size_t>(at);
}

}  // namespace mor
