// PrefixCache: the beginnings of sequences whose keys are still in the KV cache, found by a hash of their tokens.
//
// A prefix is cut into chunks of equal length. A node is one chunk together with all chunks before it, so nodes form
// trees. Keys are only appended, never changed, and the keys of a token depend only on the tokens up to it and on the
// request's routing: so the blocks of a node serve every sequence with the same beginning. In the lists of deeper
// recursions a chunk may end in the middle of a block. The keys that follow there belong to the sequence that computed
// the chunk, so another sequence copies such a block before it appends to it.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace mor {

/// The options of a request on which the depths of its tokens depend, and therefore its keys.
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
  uint64_t hash = 0;  ///< of the routing and the tokens of all nodes from the root to this one
  int32_t chunk = 0;  ///< number of tokens
  int32_t lists = 0;  ///< number of key lists
  /// One allocation for: the tokens [chunk], their depths [chunk], the end of each list's blocks [lists], and the
  /// blocks.
  std::vector<int32_t> contents;

  std::span<const int32_t> tokens() const { return part(0, chunk); }
  std::span<const int32_t> depths() const { return part(chunk, 2 * chunk); }
  /// The blocks that hold the chunk's keys, in order. The first block may begin with keys of the parent.
  std::span<const int32_t> blocks(size_t list) const {
    const int32_t* end = contents.data() + 2 * chunk + list;
    return part(2 * chunk + lists + (list == 0 ? 0 : end[-1]), 2 * chunk + lists + *end);
  }
  std::span<const int32_t> all_blocks() const { return part(2 * chunk + lists, static_cast<int32_t>(contents.size())); }

  int32_t children = 0;
  int32_t users = 0;  ///< running sequences whose longest known prefix this is
  uint64_t last_used = 0;
  PrefixNode *older = nullptr, *newer = nullptr;  ///< neighbours in the list of nodes that may be evicted

 private:
  std::span<const int32_t> part(int32_t begin, int32_t end) const {
    return {contents.data() + begin, contents.data() + end};
  }
};

/// Only `insert` allocates memory. If there is none it throws std::bad_alloc and changes nothing.
class PrefixCache {
 public:
  /// The cache keeps blocks of `pool`, which must outlive it.
  explicit PrefixCache(BlockPool& pool);

  /// Continues the hash of a parent (for the first chunk: `hash_of(routing)`) with `count` tokens.
  static uint64_t extend_hash(uint64_t hash, const int32_t* tokens, size_t count);
  static uint64_t hash_of(const PrefixRouting& routing);

  /// The node of the chunk `tokens` after `parent` (null: the beginning), or null if it is not cached. Compares the
  /// tokens too, since different tokens may have the same hash.
  PrefixNode* find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing, const int32_t* tokens);
  /// Adds `node`, whose parent must have users, and keeps its blocks; the caller is its first user. Returns null if
  /// another prefix has the same hash.
  PrefixNode* insert(PrefixNode node);
  /// Changes whenever `find` may give another result than before.
  uint64_t version() const { return version_; }

  void add_user(PrefixNode& node);
  void remove_user(PrefixNode& node);

  /// Removes, among the nodes without users and children, the one that was unused for longest. Returns false if there
  /// is none.
  bool evict();
  /// Removes all nodes, also those with users.
  void clear();

 private:
  bool idle(const PrefixNode& node) const { return node.children == 0 && node.users == 0; }
  void rest(PrefixNode& node);
  void unlink(PrefixNode& node);
  void drop_blocks(const PrefixNode& node);

  BlockPool& pool_;
  std::unordered_map<uint64_t, PrefixNode> nodes_;
  PrefixNode *oldest_ = nullptr, *newest_ = nullptr;  ///< ends of the list of idle nodes, in the order of last_used
  uint64_t clock_ = 0, version_ = 0;
};

}  // namespace mor
