// PrefixCache: nodes by hash, and the order in which they are evicted, leaves first.
#include "engine/prefix_cache.h"

#include <algorithm>
#include <bit>

namespace mor {

namespace {

/// The finaliser of SplitMix64: every bit of the input changes every bit of the result.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t PrefixCache::hash_of(const PrefixRouting& routing) {
  return mix(mix(std::bit_cast<uint64_t>(routing.score_threshold)) + static_cast<uint64_t>(routing.max_recursions));
}

uint64_t PrefixCache::extend_hash(uint64_t hash, const int32_t* tokens, size_t count) {
  for (size_t i = 0; i < count; ++i)
    hash = mix(hash + 0x9e3779b97f4a7c15 + static_cast<uint64_t>(static_cast<uint32_t>(tokens[i])));
  return hash;
}

PrefixCache::PrefixCache(BlockPool& pool) : pool_(pool) {
  nodes_.reserve(static_cast<size_t>(pool.total()));  // because growing would delay a step
}

PrefixNode* PrefixCache::find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing,
                              const int32_t* tokens) {
  const auto found = nodes_.find(hash);
  if (found == nodes_.end()) return nullptr;
  PrefixNode& node = found->second;
  const std::span<const int32_t> known = node.tokens();
  const bool same = node.parent == parent && node.routing == routing && std::equal(known.begin(), known.end(), tokens);
  return same ? &node : nullptr;
}

PrefixNode* PrefixCache::insert(PrefixNode node) {
  const auto [place, is_new] = nodes_.try_emplace(node.hash, std::move(node));
  if (!is_new) return nullptr;
  PrefixNode& inserted = place->second;
  for (const int32_t block : inserted.all_blocks()) pool_.keep(block);
  if (inserted.parent != nullptr) ++inserted.parent->children;
  inserted.users = 1;
  ++version_;
  return &inserted;
}

void PrefixCache::add_user(PrefixNode& node) {
  if (idle(node)) unlink(node);
  ++node.users;
}

void PrefixCache::remove_user(PrefixNode& node) {
  --node.users;
  node.last_used = ++clock_;
  if (idle(node)) rest(node);
}

bool PrefixCache::evict() {
  if (oldest_ == nullptr) return false;
  PrefixNode& node = *oldest_;
  unlink(node);
  drop_blocks(node);
  if (PrefixNode* const parent = node.parent) {
    --parent->children;
    parent->last_used = std::max(parent->last_used, node.last_used);  // a use of the child is a use of the parent
    if (idle(*parent)) rest(*parent);
  }
  nodes_.erase(uint64_t{node.hash});
  ++version_;
  return true;
}

void PrefixCache::clear() {
  for (const auto& [hash, node] : nodes_) drop_blocks(node);
  nodes_.clear();
  oldest_ = newest_ = nullptr;
  ++version_;
}

/// Puts a node among the idle ones, in the order of last_used. The node used last goes to the end at once; otherwise
/// the search begins at the oldest, because a parent that becomes idle by an eviction mostly belongs there.
void PrefixCache::rest(PrefixNode& node) {
  PrefixNode* next = newest_ != nullptr && newest_->last_used < node.last_used ? nullptr : oldest_;
  while (next != nullptr && next->last_used < node.last_used) next = next->newer;
  node.newer = next;
  node.older = next != nullptr ? next->older : newest_;
  (node.older != nullptr ? node.older->newer : oldest_) = &node;
  (next != nullptr ? next->older : newest_) = &node;
}

void PrefixCache::unlink(PrefixNode& node) {
  (node.older != nullptr ? node.older->newer : oldest_) = node.newer;
  (node.newer != nullptr ? node.newer->older : newest_) = node.older;
}

void PrefixCache::drop_blocks(const PrefixNode& node) {
  for (const int32_t block : node.all_blocks()) pool_.drop(block);
}

}  // namespace mor
