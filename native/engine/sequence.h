// Sequence: a request under way: its tokens, its rows in flight, and its lists of keys in the KV cache.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/logit_edits.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"

namespace mor {

/// One list of keys: those of the layers outside the block, or those of the block at one recursion.
struct KeyList {
  std::vector<int32_t> blocks;  ///< as in Rows::block_table
  int32_t count = 0;            ///< keys
  /// Where a query sees the keys of several lists: the slots of those that a query at this recursion sees, one for
  /// every token that ran recursion 1 (RoutingRules::key_seen).
  std::vector<int32_t> visible_slots;
};

/// A token on its way through the model.
struct InFlight {
  int32_t position = 0;
  int32_t slot = 0;            ///< its row of the stream buffer
  int32_t depth = 0;           ///< times that it has been through the block
  int32_t last_recursion = 0;  ///< that it may run (RoutingRules::last_recursion)
  int32_t rank = 0;            ///< place among the keys of recursion 1
  double gate = 0;             ///< token choice: of its exit
  int32_t outside_slot = 0;    ///< of its keys under the layers outside the block
  // For the next pass of the block, once the sequence `has_cache_slots`.
  int32_t visible = 0;     ///< number of keys that it sees
  int32_t cache_slot = 0;  ///< of its own key; -1: it projects queries only
};

/// Where the tokens in flight of a sequence are. They go through the recursions in step, because later tokens see the
/// keys of earlier ones at the same recursion.
enum class Phase : uint8_t {
  waiting,   ///< not admitted
  entering,  ///< nothing in flight; the next tokens enter through the embedding and the layers before the block
  block,     ///< the `active` ones run recursion `recursion` next
  exiting,   ///< all of them left the block; the layers after it and the head are next
};

struct Sequence {
  Sequence(Request r, int32_t recursions, uint64_t arrived)
      : request(std::move(r)),
        arrival(arrived),
        tokens(request.prompt),
        logit_edits(request),
        scored(request.first_scored_row()),
        keys(static_cast<size_t>(recursions) + 1),
        prefix_keys(keys.size()) {}

  using Clock = std::chrono::steady_clock;

  Request request;
  uint64_t arrival;                        ///< number of the request in the order of arrival
  std::optional<Clock::time_point> began;  ///< when it ran for the first time
  std::vector<int32_t> tokens;             ///< prompt, then what was generated
  LogitEdits logit_edits;                  ///< of the next token
  int32_t scored;                          ///< rows before this one have no more to report (Request::scored_rows)
  int32_t entered = 0;                     ///< tokens that have been in flight, or are
  int32_t counted = 0;                     ///< tokens in the statistics, where a recomputed token counts once
  Phase phase = Phase::waiting;
  std::optional<FinishReason> ending;  ///< abort or error, if it is to end before the next stage
  std::vector<KeyList> keys;           ///< [0]: layers outside the block; [r]: the block at recursion r
  std::vector<InFlight> rows;          ///< tokens in flight, in position order
  std::vector<int32_t> active;         ///< indices of `rows`
  int32_t recursion = 0;
  bool has_cache_slots = false;  ///< phase block: whether the active rows have slots for their keys of `recursion`

  // For the prefix cache (prefix_cache.h), which knows tokens in chunks.
  std::vector<uint64_t> chunk_hashes;  ///< [chunks] of the tokens up to the end of each; grows when it is needed
  std::vector<int32_t> depths;         ///< RoutingRules::depth of the tokens that have been through the model
  PrefixNode* prefix = nullptr;        ///< the last chunk that the cache knows; null before the first
  std::vector<int32_t> prefix_keys;    ///< [lists] keys up to its end
  int32_t prefix_tokens = 0;           ///< tokens up to its end
  bool extends_prefix = true;          ///< whether it adds further chunks; not after the cache was cleared

  int32_t prompt_rows = 0;  ///< rows in flight that count as prompt: all of them, or none of a decoding token

  int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t generated() const { return length() - static_cast<int32_t>(request.prompt.size()); }
  /// Whether the tokens in flight include the last one, from whose logits the next is sampled.
  bool reaches_end() const { return entered == length(); }
};

}  // namespace mor
