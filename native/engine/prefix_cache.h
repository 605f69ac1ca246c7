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
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
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
  uint64_t hash = 0;            ///< of the tokens of all nodes down to this one, and the routing
  std::vector<int32_t> tokens;  ///< [chunk]
  std::vector<int32_t> depths;  ///< [chunk] recursions that each token ran
  /// For each list of keys: the blocks that hold the chunk's, in order. The first may begin with keys of the parent.
  std::vector<std::vector<int32_t>> blocks;

  int32_t children = 0;
  int32_t users = 0;  ///< sequences under way whose longest known prefix this is
  uint64_t last_used = 0;
};

class PrefixCache {
 public:
  /// Everything must outlive the cache, which keeps blocks of `pool`.
  explicit PrefixCache(BlockPool& pool) : pool_(pool) {}

  /// Continues the hash of a parent (for the first chunk: `hash_of(routing)`) with `count` tokens.
  static uint64_t extend_hash(uint64_t hash, const int32_t* tokens, size_t count);
  static uint64_t hash_of(const PrefixRouting& routing);

  /// The chunk `tokens` after `parent` (null: at the beginning); null where it is not known. Compares tokens: a hash
  /// alone proves nothing.
  PrefixNode* find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing, const int32_t* tokens) const;
  /// Keeps the blocks of `node`, whose parent has users. Null where another prefix of the same hash stands in the way.
  PrefixNode* insert(PrefixNode node);

  void add_user(PrefixNode& node);
  void remove_user(PrefixNode& node);

  /// Forgets, of the prefixes that nobody uses and none continues, the one that has rested longest. False: there is
  /// none.
  bool evict();
  /// Forgets everything; nodes that had users are gone, too.
  void clear();

 private:
  bool idle(const PrefixNode& node) const { return node.children == 0 && node.users == 0; }
  void drop_blocks(const PrefixNode& node);

  BlockPool& pool_;
  std::unordered_map<uint64_t, std::unique_ptr<PrefixNode>> nodes_;
  std::set<std::pair<uint64_t, PrefixNode*>> idle_;  ///< by last_used
  uint64_t clock_ = 0;
};

}  // namespace mor
