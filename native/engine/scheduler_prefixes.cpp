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
  const bool by_score = config_.rules.router == RouterType::expert_choice;
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
  arrival.reset();
  node = nullptr;
  depths.clear();
  keys.assign(lists, 0);
  blocks.resize(lists);
  for (std::vector<int32_t>& list : blocks) list.clear();
}

/// Fills `match_`. The last token is never in it: its row gives the next token.
void Scheduler::match_prefix(Sequence& s) {
  if (match_.arrival == s.arrival && match_.version == prefixes_.version()) return;
  const size_t lists = s.keys.size();
  match_.clear(lists);
  const int32_t chunks = config_.prefix_cache ? (s.length() - 1) / config_.block_size : 0;
  const PrefixRouting routing = routing_of(s.request);
  for (int32_t chunk = 0; chunk < chunks; ++chunk) {
    PrefixNode* const node = prefixes_.find(chunk_hash(s, static_cast<size_t>(chunk)), match_.node, routing,
                                            &s.tokens[static_cast<size_t>(chunk * config_.block_size)]);
    if (node == nullptr) break;
    match_.node = node;
    match_.depths.insert(match_.depths.end(), node->depths().begin(), node->depths().end());
    for (size_t list = 0; list < lists; ++list) {
      const std::span<const int32_t> blocks = node->blocks(list);
      // A block that the chunk's first key found half full is the node's own: it holds the keys before, too.
      if (!blocks.empty()) match_.blocks[list].resize(static_cast<size_t>(match_.keys[list] / block_size(list)));
      match_.blocks[list].insert(match_.blocks[list].end(), blocks.begin(), blocks.end());
      match_.keys[list] += keys_of(node->depths(), list);
    }
  }
  match_.arrival = s.arrival;
  match_.version = prefixes_.version();
}

/// Keys that tokens of these depths leave in a list.
int32_t Scheduler::keys_of(std::span<const int32_t> depths, size_t list) {
  return static_cast<int32_t>(
      std::count_if(depths.begin(), depths.end(), [&](int32_t depth) { return depth >= static_cast<int32_t>(list); }));
}

/// Blocks that are in use while `s` takes over the match and enters all of its tokens, and are not in use now;
/// `expected`: once those have left the block at the depths seen so far, and some tokens more.
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

/// Makes `match_` the beginning of `s`, which holds nothing yet.
void Scheduler::take_over_match(Sequence& s) {
  const int32_t tokens = match_.tokens();
  match_.arrival.reset();  // what `s` finds another time is found anew
  if (tokens == 0) return;
  // What may throw comes first.
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
  if (config_.rules.sees_several_lists()) restore_visible_slots(s);
}

/// Hybrid: as `add_block_group` left them where the tokens were computed, in the blocks that `s` has.
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

/// Tells the cache the chunks that are complete.
void Scheduler::remember(Sequence& s) {
  while (s.extends_prefix && s.prefix_tokens + config_.block_size <= s.entered) s.extends_prefix = remember_chunk(s);
}

/// False: no chunk after this one can be found, so none need be told.
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
    if (chunk_blocks_.empty()) return false;  // a node without blocks would never be evicted for one
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
