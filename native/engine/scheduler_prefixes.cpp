// Scheduler: which beginnings of sequences are known, taken over and remembered. Must not know of models or devices.
//
// A sequence tells its chunks once they have been through the whole model, prompt and generated tokens alike. One that
// is admitted takes over the longest beginning it finds: full blocks are shared, and of each list the last block, where
// it is not full, is copied, since both go on to append to it.
#include <algorithm>

#include "engine/scheduler.h"

namespace mor {

/// Requests whose tokens have the same keys, if they are the same tokens.
PrefixRouting Scheduler::routing_of(const Request& request) const {
  const bool by_score = config_.depth_source == DepthSource::score_per_recursion;
  return {by_score ? request.score_threshold : 0, request.max_recursions};
}

/// Of the tokens up to the end of a full chunk.
uint64_t Scheduler::chunk_hash(Sequence& s, size_t chunk) const {
  const size_t size = static_cast<size_t>(config_.block_size);
  for (size_t i = s.chunk_hashes.size(); i <= chunk; ++i)
    s.chunk_hashes.push_back(PrefixCache::extend_hash(
        i == 0 ? PrefixCache::hash_of(routing_of(s.request)) : s.chunk_hashes.back(), &s.tokens[i * size], size));
  return s.chunk_hashes[chunk];
}

void Scheduler::PrefixMatch::clear(size_t lists) {
  node = nullptr;
  depths.clear();
  keys.assign(lists, 0);
  blocks.resize(lists);
  for (std::vector<int32_t>& list : blocks) list.clear();
}

/// Fills `match_`. The last token is never in it: its row gives the next token.
void Scheduler::match_prefix(Sequence& s) {
  const size_t lists = s.keys.size();
  match_.clear(lists);
  const int32_t chunks = (s.length() - 1) / config_.block_size;
  const PrefixRouting routing = routing_of(s.request);
  for (int32_t chunk = 0; config_.prefix_cache && chunk < chunks; ++chunk) {
    PrefixNode* const node = prefixes_.find(chunk_hash(s, static_cast<size_t>(chunk)), match_.node, routing,
                                            &s.tokens[static_cast<size_t>(chunk * config_.block_size)]);
    if (node == nullptr) return;
    match_.node = node;
    match_.depths.insert(match_.depths.end(), node->depths.begin(), node->depths.end());
    for (size_t list = 0; list < lists; ++list) {
      // A block that the chunk's first key found half full is the node's own: it holds the keys before, too.
      if (!node->blocks[list].empty())
        match_.blocks[list].resize(static_cast<size_t>(match_.keys[list] / block_size(list)));
      match_.blocks[list].insert(match_.blocks[list].end(), node->blocks[list].begin(), node->blocks[list].end());
      match_.keys[list] += keys_of(node->depths, list);
    }
  }
}

/// Keys that tokens of these depths leave in a list.
int32_t Scheduler::keys_of(const std::vector<int32_t>& depths, size_t list) {
  return static_cast<int32_t>(
      std::count_if(depths.begin(), depths.end(), [&](int32_t depth) { return depth >= static_cast<int32_t>(list); }));
}

/// Blocks that are in use while `s` takes over the match and enters all of its tokens, and are not in use now.
int64_t Scheduler::blocks_beyond_match(const Sequence& s) const {
  const int64_t rest = s.length() - match_.tokens();
  int64_t needed = 0;
  for (size_t list = 0; list < s.keys.size(); ++list) {
    if (!uses(s.request, list)) continue;
    needed += blocks_of(match_.keys[list] + rest, block_size(list)) - match_.keys[list] / block_size(list);
    for (const int32_t block : match_.blocks[list])
      if (pool_.users(block) == 0) ++needed;
  }
  return needed;
}

/// Makes `match_` the beginning of `s`, which holds nothing yet.
void Scheduler::take_over_match(Sequence& s) {
  const int32_t tokens = match_.tokens();
  s.prefix_keys = match_.keys;
  if (tokens == 0) return;
  s.prefix = match_.node;
  s.prefix_tokens = s.entered = tokens;
  s.depths = match_.depths;
  prefixes_.add_user(*s.prefix);
  stats_.prefix_hit_tokens += tokens;
  const int32_t counted = std::min(tokens, static_cast<int32_t>(s.request.prompt.size()));
  if (counted > s.counted) stats_.prompt_tokens += counted - s.counted;
  s.counted = std::max(s.counted, tokens);

  // All are in use before any is taken: taking one may make the cache forget this very prefix.
  for (const std::vector<int32_t>& blocks : match_.blocks)
    for (const int32_t block : blocks) pool_.share(block);
  const size_t copied_before = plan_.copies.size();
  for (size_t list = 0; list < s.keys.size(); ++list) {
    KeyList& keys = s.keys[list];
    keys.count = match_.keys[list];
    for (const int32_t block : match_.blocks[list]) keys.blocks.push_back(block * block_stride(list));
    if (keys.blocks.empty() || keys.count % block_size(list) == 0) continue;
    const int32_t own = take_block();
    plan_.copies.emplace_back(match_.blocks[list].back(), own);
    keys.blocks.back() = own * block_stride(list);
  }
  // Whoever takes a block that was copied from writes it after the copy.
  for (size_t i = copied_before; i < plan_.copies.size(); ++i) pool_.give_back(plan_.copies[i].first);
  if (config_.key_policy == KeyPolicy::hybrid) restore_visible_slots(s);
}

/// Hybrid: as `add_block_group` left them where the tokens were computed, in the blocks that `s` has.
void Scheduler::restore_visible_slots(Sequence& s) const {
  std::vector<int32_t> count(s.keys.size(), 0);
  for (const int32_t depth : s.depths) {
    for (size_t r = 1; r < s.keys.size() && depth > 0; ++r) {
      const size_t deepest = std::min(r, static_cast<size_t>(depth));
      s.keys[r].visible_slots.push_back(cache_slot(s, deepest, count[deepest]));
    }
    for (size_t r = 1; r <= static_cast<size_t>(depth); ++r) ++count[r];
  }
}

/// Tells the cache the chunks that are complete.
void Scheduler::remember(Sequence& s) {
  while (s.extends_prefix && s.prefix_tokens + config_.block_size <= s.entered) s.extends_prefix = remember_chunk(s);
}

/// False: no chunk after this one can be found, so none need be told.
bool Scheduler::remember_chunk(Sequence& s) {
  const size_t chunk = static_cast<size_t>(s.prefix_tokens / config_.block_size);
  const int32_t* tokens = &s.tokens[static_cast<size_t>(s.prefix_tokens)];
  const uint64_t hash = chunk_hash(s, chunk);
  PrefixNode node;
  node.parent = s.prefix;
  node.routing = routing_of(s.request);
  node.hash = hash;
  node.depths.assign(s.depths.begin() + s.prefix_tokens, s.depths.begin() + s.prefix_tokens + config_.block_size);
  PrefixNode* known = prefixes_.find(hash, s.prefix, node.routing, tokens);
  std::vector<int32_t> keys = s.prefix_keys;
  bool holds_keys = false;
  node.blocks.resize(keys.size());
  for (size_t list = 0; list < keys.size(); ++list) {
    keys[list] += keys_of(node.depths, list);
    if (known != nullptr || !uses(s.request, list) || keys[list] == s.prefix_keys[list]) continue;
    const int64_t end = blocks_of(keys[list], block_size(list));
    for (int64_t i = s.prefix_keys[list] / block_size(list); i < end; ++i)
      node.blocks[list].push_back(s.keys[list].blocks[static_cast<size_t>(i)] / block_stride(list));
    holds_keys = true;
  }
  if (known == nullptr) {
    if (!holds_keys) return false;  // a node without blocks would never be evicted for one
    node.tokens.assign(tokens, tokens + config_.block_size);
    known = prefixes_.insert(std::move(node));
  }
  if (known == nullptr) return false;
  prefixes_.add_user(*known);
  if (s.prefix != nullptr) prefixes_.remove_user(*s.prefix);
  s.prefix = known;
  s.prefix_keys = std::move(keys);
  s.prefix_tokens += config_.block_size;
  return true;
}

void Scheduler::forget_prefixes() {
  prefixes_.clear();
  for (Sequence* s : running_) {
    s->prefix = nullptr;
    s->extends_prefix = false;
  }
}

}  // namespace mor
