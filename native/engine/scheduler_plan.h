// What the scheduler asks the device to do in one stage, and what it wants to hear back.
// Must not know how it was planned or how it is done.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/sequence.h"

namespace mor {

/// Rows of one stage, in groups that share one list of keys: a group is a sequence here, since all of its rows stand at
/// the same recursion. Groups of one recursion stand together, recursion 1 first. Field meanings are those of Rows.
struct StagePlan {
  std::vector<Sequence*> groups;
  std::vector<int32_t> start;                          ///< [groups + 1]
  std::vector<int32_t> slot;                           ///< [rows] of the stream buffer
  std::vector<int32_t> position, visible, cache_slot;  ///< [rows]
  /// [groups] the blocks of each group's keys, in the sequence's own list: to be read before anything else happens.
  /// Empty in a boundary stage without layers.
  std::vector<const int32_t*> table;
  int32_t blocks_per_group = 0, block_size = 0;  ///< most blocks of a group; tokens in one
  int32_t max_rows = 0, max_keys = 0;

  // Entry.
  /// Blocks to copy before anything else, one after the other: each (from, to). So sequences that begin alike part.
  std::vector<std::pair<int32_t, int32_t>> copies;
  std::vector<int32_t> token;  ///< [rows]

  // Block.
  std::vector<int32_t> recursion_start;  ///< [N + 1] rows of recursion r are recursion_start[r-1] .. recursion_start[r]
  std::vector<int32_t> exits;            ///< token choice: rows that leave the block here
  std::vector<double> gate;              ///< token choice: [exits]
  bool queries_only = false;             ///< the keys are all there: shared policy, and no row of recursion 1

  // Exit.
  std::vector<int32_t> last;       ///< rows whose logits give a token
  std::vector<int32_t> last_slot;  ///< their rows of the stream buffer
  std::vector<Sequence*> sampled;  ///< their sequences

  int32_t rows() const { return static_cast<int32_t>(slot.size()); }
  /// Keys that group g sees.
  int32_t keys_of_group(size_t g) const { return visible[static_cast<size_t>(start[g + 1]) - 1]; }
  int32_t blocks_of_group(size_t g) const { return (keys_of_group(g) + block_size - 1) / block_size; }
  void clear();
};

/// What a stage found.
struct StageOutcome {
  // Entry and block, expert choice.
  std::vector<double> score;  ///< [rows] that decides about the next recursion; where that is decided already: anything
  // Entry, token choice.
  std::vector<int32_t> depth;  ///< [rows] recursions chosen
  std::vector<double> gate;    ///< [rows] of the exit

  // Exit, one for each of StagePlan::last.
  std::vector<int32_t> token;             ///< -1: no logit was finite
  std::vector<float> logprob;             ///< empty where no sequence asks for it
  std::vector<TokenLogprob> top_logprob;  ///< kMostTopLogprobs each, as of Ops::sample; empty where no sequence asks
};

}  // namespace mor
