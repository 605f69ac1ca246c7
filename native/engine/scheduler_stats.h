// SchedulerStats: what the scheduler counts.
#pragma once

#include <cstdint>
#include <vector>

namespace mor {

/// Counters since the scheduler was made, and its present state.
struct SchedulerStats {
  int64_t running = 0, waiting = 0, finished = 0;  ///< requests
  int64_t tokens_generated = 0;
  int64_t tokens_run = 0;         ///< prompt and generated tokens that have been through the model, each counted once
  int64_t running_tokens = 0;     ///< tokens of running sequences that are in the cache
  int64_t prompt_tokens = 0;      ///< tokens of prompts that were computed or found in the prefix cache
  int64_t prefix_hit_tokens = 0;  ///< tokens that were found in the prefix cache instead of being computed
  int64_t preemptions = 0;        ///< times that a sequence lost its memory, to be computed again
  /// total = used by running sequences + cached for later + free.
  int64_t kv_blocks_total = 0, kv_blocks_used = 0, kv_blocks_cached = 0, kv_blocks_free = 0;
  /// [N] prompt and generated tokens that were computed here, by RoutingRules::depth: r + 1 at [r], 0 not counted.
  std::vector<int64_t> depth_histogram;
};

}  // namespace mor
