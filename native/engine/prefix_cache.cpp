// PrefixCache: a tree of chunks by hash, evicted leaf by leaf. Must not know of sequences under way, of models or of
// devices.
#include "engine/prefix_cache.h"

#include <algorithm>
#include <bit>

#include "core/check.h"

namespace mor {

namespace {

/// The finaliser of SplitMix64: every bit of the input moves every bit of the result.
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

PrefixNode* PrefixCache::find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing,
                              const int32_t* tokens) const {
  const auto found = nodes_.find(hash);
  if (found == nodes_.end()) return nullptr;
  PrefixNode& node = *found->second;
  const bool same =
      node.parent == parent && node.routing == routing && std::equal(node.tokens.begin(), node.tokens.end(), tokens);
  return same ? &node : nullptr;
}

PrefixNode* PrefixCache::insert(PrefixNode node) {
  auto made = std::make_unique<PrefixNode>(std::move(node));
  PrefixNode& inserted = *made;
  if (!nodes_.try_emplace(inserted.hash, std::move(made)).second) return nullptr;
  for (const std::vector<int32_t>& list : inserted.blocks)
    for (const int32_t block : list) pool_.keep(block);
  if (inserted.parent != nullptr) ++inserted.parent->children;
  inserted.last_used = ++clock_;
  idle_.emplace(inserted.last_used, &inserted);
  return &inserted;
}

void PrefixCache::add_user(PrefixNode& node) {
  if (idle(node)) idle_.erase({node.last_used, &node});
  ++node.users;
}

void PrefixCache::remove_user(PrefixNode& node) {
  --node.users;
  node.last_used = ++clock_;
  if (idle(node)) idle_.emplace(node.last_used, &node);
}

bool PrefixCache::evict() {
  if (idle_.empty()) return false;
  PrefixNode* const node = idle_.begin()->second;
  idle_.erase(idle_.begin());
  drop_blocks(*node);
  if (PrefixNode* const parent = node->parent) {
    --parent->children;
    parent->last_used = std::max(parent->last_used, node->last_used);  // who used the child used the parent
    if (idle(*parent)) idle_.emplace(parent->last_used, parent);
  }
  nodes_.erase(node->hash);
  return true;
}

void PrefixCache::clear() {
  for (const auto& [hash, node] : nodes_) drop_blocks(*node);
  nodes_.clear();
  idle_.clear();
}

void PrefixCache::drop_blocks(const PrefixNode& node) {
  for (const std::vector<int32_t>& list : node.blocks)
    for (const int32_t block : list) pool_.drop(block);
}

}  // namespace mor
