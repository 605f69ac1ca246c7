// StagePlan and StageOutcome: what the scheduler asks of one stage on the device, and what the stage found.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/sequence.h"

namespace mor {

/// The rows of one stage, in groups with one list of keys each: a group is the rows of one sequence, which are all at
/// the same recursion. Groups are in the order of their recursions. The fields mean what they mean in Rows.
struct StagePlan {
  std::vector<Sequence*> groups;
  std::vector<int32_t> start;                          ///< [groups + 1]
  std::vector<int32_t> slot;                           ///< [rows] of the stream buffer
  std::vector<int32_t> position, visible, cache_slot;  ///< [rows]
  /// [groups] the blocks of each group's keys. They point into the sequences' own lists, and are valid until the
  /// scheduler is called again. Empty in a boundary stage without layers.
  std::vector<const int32_t*> table;
  int32_t blocks_per_group = 0, block_size = 0;  ///< most blocks of a group; tokens in a block
  int32_t max_rows = 0, max_keys = 0;

  // Entry.
  /// Blocks to copy before everything else and in this order, as (from, to): sequences that share a beginning each
  /// append to a copy of their own (PrefixNode).
  std::vector<std::pair<int32_t, int32_t>> copies;
  std::vector<int32_t> token;  ///< [rows]

  // Block.
  std::vector<int32_t> recursion_start;  ///< [N + 1] rows of recursion r are recursion_start[r-1] .. recursion_start[r]
  std::vector<int32_t> exits;            ///< token choice: rows that leave the block after this pass
  std::vector<double> gate;              ///< token choice: [exits]
  bool queries_only = false;             ///< whether all rows are (RoutingRules::queries_only)

  // Exit.
  std::vector<int32_t> last;       ///< rows whose logits are needed: first those from which a token is sampled
  std::vector<int32_t> last_slot;  ///< their rows of the stream buffer
  std::vector<Sequence*> sampled;  ///< the sequences of the first ones
  std::vector<Sequence*> scored;   ///< the sequences of the others, whose next token is one of the prompt
  std::vector<Sequence*> done;     ///< sequences that end here without a token

  int32_t rows() const { return static_cast<int32_t>(slot.size()); }
  /// Number of keys that group g sees.
  int32_t keys_of_group(size_t g) const { return visible[static_cast<size_t>(start[g + 1]) - 1]; }
  int32_t blocks_of_group(size_t g) const { return (keys_of_group(g) + block_size - 1) / block_size; }
  void clear();
};

/// The results of a stage that the scheduler needs.
struct StageOutcome {
  // Entry and block, expert choice.
  std::vector<double> score;  ///< [rows] for the next recursion; undefined where no router is asked (RoutingRules)
  // Entry, token choice.
  std::vector<int32_t> depth;  ///< [rows] chosen depths
  std::vector<double> gate;    ///< [rows] gates of the exit

  // Exit, one for each of StagePlan::last; the token is that of the prompt where there is one.
  std::vector<int32_t> token;             ///< -1: no logit was finite
  std::vector<float> logprob;             ///< empty if no sequence asks for it
  std::vector<TokenLogprob> top_logprob;  ///< kMostTopLogprobs each, as of Ops::sample; empty if no sequence asks
};

}  // namespace mor
