// Scheduler: how sequences find, take over and add prefixes.
#include <algorithm>

#include "engine/scheduler.h"

namespace mor {

/// Requests of equal routing have equal keys for equal tokens.
PrefixRouting Scheduler::routing_of(const Request& request) const {
  return {config_.rules.decides_by_threshold() ? request.score_threshold : 0, request.max_recursions};
}

/// The hash of the tokens up to the end of a full chunk.
uint64_t Scheduler::chunk_hash(Sequence& s, size_t chunk) const {
  const size_t size = static_cast<size_t>(config_.block_size);
  for (size_t i = s.chunk_hashes.size(); i <= chunk; ++i)
    s.chunk_hashes.push_back(PrefixCache::extend_hash(
        i == 0 ? PrefixCache::hash_of(routing_of(s.request)) : s.chunk_hashes.back(), &s.tokens[i * size], size));
  return s.chunk_hashes[chunk];
}

void Scheduler::PrefixMatch::clear(size_t lists) {
  arrival.reset();
  node = nullptr;
  depths.clear();
  keys.assign(lists, 0);
  blocks.resize(lists);
  for (std::vector<int32_t>& list : blocks) list.clear();
}

/// Fills `match_` with the longest prefix of `s` that the cache has, but never its last token, nor a token of the
/// prompt whose row still gives a log-probability: these must run.
void Scheduler::match_prefix(Sequence& s) {
  if (match_.arrival == s.arrival && match_.version == prefixes_.version()) return;
  const size_t lists = s.keys.size();
  match_.clear(lists);
  const int32_t most = s.scored < s.request.scored_rows() ? s.scored : s.length() - 1;
  const int32_t chunks = config_.prefix_cache ? most / config_.block_size : 0;
  const PrefixRouting routing = routing_of(s.request);
  for (int32_t chunk = 0; chunk < chunks; ++chunk) {
    PrefixNode* const node = prefixes_.find(chunk_hash(s, static_cast<size_t>(chunk)), match_.node, routing,
                                            &s.tokens[static_cast<size_t>(chunk * config_.block_size)]);
    if (node == nullptr) break;
    match_.node = node;
    match_.depths.insert(match_.depths.end(), node->depths().begin(), node->depths().end());
    for (size_t list = 0; list < lists; ++list) {
      const std::span<const int32_t> blocks = node->blocks(list);
      // If the keys so far end inside a block, the node's first block holds them too, and takes that block's place.
      if (!blocks.empty()) match_.blocks[list].resize(static_cast<size_t>(match_.keys[list] / block_size(list)));
      match_.blocks[list].insert(match_.blocks[list].end(), blocks.begin(), blocks.end());
      match_.keys[list] += keys_of(node->depths(), list);
    }
  }
  match_.arrival = s.arrival;
  match_.version = prefixes_.version();
}

/// How many keys tokens of these depths leave in a list.
int32_t Scheduler::keys_of(std::span<const int32_t> depths, size_t list) {
  return static_cast<int32_t>(
      std::count_if(depths.begin(), depths.end(), [&](int32_t depth) { return depth >= static_cast<int32_t>(list); }));
}

/// How many more blocks are in use once `s` has taken over the match and all of its tokens have entered: at most, or,
/// if `expected`, at the depths seen so far, and with the tokens that admission provides for.
int64_t Scheduler::blocks_beyond_match(const Sequence& s, bool expected) const {
  const int32_t rest = s.length() - match_.tokens();
  int64_t needed = 0;
  for (size_t list = 0; list < s.keys.size(); ++list) {
    if (!uses(s.request, list)) continue;
    const int32_t keys = expected ? expected_keys(list, rest + tokens_ahead(s)) : rest;
    needed += blocks_of(match_.keys[list] + keys, block_size(list)) - match_.keys[list] / block_size(list);
    for (const int32_t block : match_.blocks[list])
      if (pool_.users(block) == 0) ++needed;
  }
  return needed;
}

/// Makes `match_` the beginning of `s`, which holds nothing yet: it shares the full blocks, and copies the last block
/// of each list if that is not full, because several sequences go on to append to it.
void Scheduler::take_over_match(Sequence& s) {
  const int32_t tokens = match_.tokens();
  match_.arrival.reset();  // if `s` is preempted, it searches again
  if (tokens == 0) return;
  // First everything that may throw.
  s.depths = match_.depths;
  for (size_t list = 0; list < s.keys.size(); ++list) s.keys[list].blocks.reserve(match_.blocks[list].size());
  plan_.copies.reserve(plan_.copies.size() + s.keys.size());

  std::copy(match_.keys.begin(), match_.keys.end(), s.prefix_keys.begin());
  s.prefix = match_.node;
  s.prefix_tokens = s.entered = tokens;
  prefixes_.add_user(*s.prefix);
  stats_.prefix_hit_tokens += tokens;
  const int32_t counted = std::min(tokens, static_cast<int32_t>(s.request.prompt.size()));
  if (counted > s.counted) stats_.prompt_tokens += counted - s.counted;
  s.counted = std::max(s.counted, tokens);

  // `s` becomes a user of every block before it takes any, because taking one may evict this very prefix.
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
  // Other sequences may take these blocks from now on, but write to them only after the copies.
  for (size_t i = copied_before; i < plan_.copies.size(); ++i) pool_.give_back(plan_.copies[i].first);
  if (config_.rules.sees_several_lists()) restore_visible_slots(s);
}

/// Lists the slots of the keys that queries see, as `place` did where the tokens were computed, in the blocks of `s`.
void Scheduler::restore_visible_slots(Sequence& s) const {
  std::vector<int32_t> count(s.keys.size(), 0);
  for (const int32_t depth : s.depths) {
    for (size_t r = 1; r < s.keys.size(); ++r) {
      const auto seen = static_cast<size_t>(config_.rules.key_seen(static_cast<int32_t>(r), depth));
      if (seen > 0) s.keys[r].visible_slots.push_back(cache_slot(s, seen, count[seen]));
    }
    for (size_t r = 1; r <= static_cast<size_t>(depth); ++r) ++count[r];
  }
}

/// Adds to the cache the chunks of `s` that are complete, prompt and generated tokens alike.
void Scheduler::remember(Sequence& s) {
  while (s.extends_prefix && s.prefix_tokens + config_.block_size <= s.entered) s.extends_prefix = remember_chunk(s);
}

/// Adds the next chunk. False if no chunk after it could be found, so that none need be added.
bool Scheduler::remember_chunk(Sequence& s) {
  const size_t size = static_cast<size_t>(config_.block_size), first = static_cast<size_t>(s.prefix_tokens);
  const std::span<const int32_t> tokens(&s.tokens[first], size), depths(&s.depths[first], size);
  const uint64_t hash = chunk_hash(s, first / size);
  const PrefixRouting routing = routing_of(s.request);
  PrefixNode* known = prefixes_.find(hash, s.prefix, routing, tokens.data());
  if (known != nullptr) {
    prefixes_.add_user(*known);
  } else {
    PrefixNode node;
    node.parent = s.prefix;
    node.routing = routing;
    node.hash = hash;
    node.chunk = config_.block_size;
    node.lists = static_cast<int32_t>(s.keys.size());
    chunk_blocks_.clear();
    chunk_ends_.clear();
    for (size_t list = 0; list < s.keys.size(); ++list) {
      const int32_t begin = s.prefix_keys[list], end = begin + keys_of(depths, list), per_block = block_size(list);
      if (uses(s.request, list) && end > begin)
        for (int32_t i = begin / per_block; i * per_block < end; ++i)
          chunk_blocks_.push_back(s.keys[list].blocks[static_cast<size_t>(i)] / block_stride(list));
      chunk_ends_.push_back(static_cast<int32_t>(chunk_blocks_.size()));
    }
    if (chunk_blocks_.empty()) return false;  // evicting a node without blocks would free none
    node.contents.reserve(2 * size + chunk_ends_.size() + chunk_blocks_.size());
    for (const std::span<const int32_t> part :
         {tokens, depths, std::span<const int32_t>(chunk_ends_), std::span<const int32_t>(chunk_blocks_)})
      node.contents.insert(node.contents.end(), part.begin(), part.end());
    known = prefixes_.insert(std::move(node));
    if (known == nullptr) return false;
  }
  if (s.prefix != nullptr) prefixes_.remove_user(*s.prefix);
  s.prefix = known;
  for (size_t list = 0; list < s.keys.size(); ++list) s.prefix_keys[list] += keys_of(depths, list);
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
