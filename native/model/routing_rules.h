// RoutingRules: how deep a token goes and which keys it sees (docs/model.md sections 2 to 5). Training, evaluation and
// the engine ask these rules, and nothing here needs a device.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace mor {

struct ModelConfig;

/// How the unrolled depth maps to unique layers (paper section 2.1, "parameter-sharing strategies").
enum class Sharing : uint8_t { cycle, sequence, middle_cycle, middle_sequence };
/// Which keys and values a query at recursion r sees (paper section 2.2.2).
enum class KvCachePolicy : uint8_t { recursion_wise, shared, hybrid };
/// What decides the depth of a token (paper section 2.2); none: every token runs every recursion.
enum class RouterType : uint8_t { none, expert_choice, token_choice };

/// Recursions are counted from r = 1. A "limit" is the most recursions that a request or a pass allows.
struct RoutingRules {
  int32_t num_recursions = 1;  ///< N
  bool block_recurs = false;   ///< whether there is a block that is applied as a whole, up to N times
  RouterType router = RouterType::none;
  KvCachePolicy kv_cache = KvCachePolicy::recursion_wise;
  std::vector<bool> runs_all;  ///< expert choice: [N] whether every token runs recursion r + 1 (capacity 1)
  /// Expert choice that selects by threshold: [N] the running threshold of recursion r + 1. Empty: 0.
  std::vector<double> thresholds;

  // ---- Depth.

  /// How many times the block is applied at most; 0 without a block that recurs. limit 0: as often as the model allows.
  int32_t passes(int32_t limit = 0) const {
    const int32_t n = block_recurs ? num_recursions : 0;
    return limit > 0 ? std::min(limit, n) : n;
  }
  /// The depth of a token that has been through the block `times` times. Without a block that recurs, every token has
  /// depth N.
  int32_t depth(int32_t times) const { return block_recurs ? times : num_recursions; }

  /// Whether the depth of a token depends on the threshold that a request gives.
  bool decides_by_threshold() const { return router == RouterType::expert_choice; }
  /// Whether a router's score decides if a token runs recursion r.
  bool asks_router(int32_t r) const {
    return decides_by_threshold() && r <= passes() && !runs_all[static_cast<size_t>(r) - 1];
  }
  /// The least score with which a token runs recursion r by threshold; -infinity where no score decides. threshold:
  /// relative to the running threshold.
  double least_score(int32_t r, double threshold) const {
    if (!asks_router(r)) return -std::numeric_limits<double>::infinity();
    return thresholds.empty() ? threshold : thresholds[static_cast<size_t>(r) - 1] + threshold;
  }
  /// The last recursion that a token may run. chosen: under token choice, the depth that the router chose for it.
  int32_t last_recursion(int32_t limit, int32_t chosen) const {
    return router == RouterType::token_choice ? std::min(limit, chosen) : limit;
  }
  /// Whether a token whose last recursion may be `last` runs recursion r, given its score for r.
  bool goes_on(int32_t r, int32_t last, double score, double threshold) const {
    return r <= last && score >= least_score(r, threshold);
  }
  /// Token choice: the depths from `low` to `high` are those whose tokens leave the block after recursion r, or stay.
  struct ChosenDepths {
    int32_t low, high;
  };
  ChosenDepths leaving_after(int32_t r, int32_t limit) const { return {r, r == limit ? num_recursions : r}; }
  ChosenDepths staying_after(int32_t r) const { return {r + 1, num_recursions}; }

  // ---- Keys. Every recursion has a list of keys of its own, in the order of the tokens.

  /// The recursion in whose list a query at recursion r finds the key of a token of this depth; 0: it does not see the
  /// token.
  int32_t key_seen(int32_t r, int32_t depth) const {
    switch (kv_cache) {
      case KvCachePolicy::recursion_wise:
        return depth >= r ? r : 0;
      case KvCachePolicy::shared:
        return std::min(depth, 1);
      case KvCachePolicy::hybrid:
        return depth >= r ? r : std::min(depth, 1);
    }
    return 0;
  }
  /// Whether recursion r projects queries only, since its tokens see the keys of recursion 1 in place of their own.
  bool queries_only(int32_t r) const { return key_seen(r, r) != r; }
  /// Whether queries at later recursions see all tokens that ran recursion 1. A row then sees as many keys as its token
  /// saw there.
  bool sees_tokens_that_left() const { return kv_cache != KvCachePolicy::recursion_wise; }
  /// Whether the keys that one query sees lie in the lists of several recursions.
  bool sees_several_lists() const { return kv_cache == KvCachePolicy::hybrid; }
};

/// Without running thresholds, which are part of the weights (model/routing.h).
RoutingRules routing_rules(const ModelConfig& config);

}  // namespace mor
