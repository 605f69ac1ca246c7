// PrefixCache: what the KV cache still holds of sequences' beginnings, found by a hash of their tokens.
// Must not know of sequences under way, of models or of devices.
//
// A prefix is cut into chunks of equal length; a node is one chunk after all chunks before it, so nodes make trees.
// Keys are only ever appended, and what a token left at every recursion depends on nothing but the tokens before it and
// the request's routing: so a node's blocks serve every sequence that begins alike. Blocks of the lists of deeper
// recursions fill at their own pace, and a chunk may end in the middle of one; the keys that follow there belong to
// whoever computed the chunk, so others copy such a block before they append to it.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace mor {

/// What of a request decides how deep its tokens go, and so what is in its cache.
struct PrefixRouting {
  double score_threshold = 0;
  int32_t max_recursions = 0;
  bool operator==(const PrefixRouting& other) const {
    return score_threshold == other.score_threshold && max_recursions == other.max_recursions;
  }
};

struct PrefixNode {
  PrefixNode* parent = nullptr;
  PrefixRouting routing;
  uint64_t hash = 0;  ///< of the tokens of all nodes down to this one, and the routing
  int32_t chunk = 0;  ///< tokens in it
  int32_t lists = 0;  ///< of keys
  /// In one piece of memory: tokens [chunk], the recursions that each ran [chunk], where each list's blocks end
  /// [lists], blocks.
  std::vector<int32_t> contents;

  std::span<const int32_t> tokens() const { return part(0, chunk); }
  std::span<const int32_t> depths() const { return part(chunk, 2 * chunk); }
  /// That hold the chunk's keys, in order. The first may begin with keys of the parent.
  std::span<const int32_t> blocks(size_t list) const {
    const int32_t* end = contents.data() + 2 * chunk + list;
    return part(2 * chunk + lists + (list == 0 ? 0 : end[-1]), 2 * chunk + lists + *end);
  }
  std::span<const int32_t> all_blocks() const { return part(2 * chunk + lists, static_cast<int32_t>(contents.size())); }

  int32_t children = 0;
  int32_t users = 0;  ///< sequences under way whose longest known prefix this is
  uint64_t last_used = 0;
  PrefixNode *older = nullptr, *newer = nullptr;  ///< neighbours among those that may be forgotten

 private:
  std::span<const int32_t> part(int32_t begin, int32_t end) const {
    return {contents.data() + begin, contents.data() + end};
  }
};

/// Only `insert` takes memory; it throws std::bad_alloc and leaves everything as it was.
class PrefixCache {
 public:
  /// Everything must outlive the cache, which keeps blocks of `pool`.
  explicit PrefixCache(BlockPool& pool);

  /// Continues the hash of a parent (for the first chunk: `hash_of(routing)`) with `count` tokens.
  static uint64_t extend_hash(uint64_t hash, const int32_t* tokens, size_t count);
  static uint64_t hash_of(const PrefixRouting& routing);

  /// The chunk `tokens` after `parent` (null: at the beginning); null where it is not known. Compares tokens: a hash
  /// alone proves nothing.
  PrefixNode* find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing, const int32_t* tokens);
  /// Keeps the blocks of `node`, whose parent has users; the caller is its first user. Null where another prefix of the
  /// same hash stands in the way.
  PrefixNode* insert(PrefixNode node);
  /// Another number than before: what was found then may not be what is found now.
  uint64_t version() const { return version_; }

  void add_user(PrefixNode& node);
  void remove_user(PrefixNode& node);

  /// Forgets, of the prefixes that nobody uses and none continues, the one that has rested longest. False: there is
  /// none.
  bool evict();
  /// Forgets everything; nodes that had users are gone, too.
  void clear();

 private:
  bool idle(const PrefixNode& node) const { return node.children == 0 && node.users == 0; }
  void rest(PrefixNode& node);
  void unlink(PrefixNode& node);
  void drop_blocks(const PrefixNode& node);

  BlockPool& pool_;
  std::unordered_map<uint64_t, PrefixNode> nodes_;
  PrefixNode *oldest_ = nullptr, *newest_ = nullptr;  ///< idle ones, in the order of last_used
  uint64_t clock_ = 0, version_ = 0;
};

}  // namespace mor
