// PrefixCache: finds the keys that sequences with the same beginning left in the KV cache.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace mor {

/// What of a request decides the depths of its tokens, and with them its keys.
struct PrefixRouting {
  double score_threshold = 0;
  int32_t max_recursions = 0;
  bool operator==(const PrefixRouting&) const = default;
};

/// One chunk of tokens after all chunks before it. Chunks have equal length, and nodes form trees.
///
/// The keys of a token at a recursion depend only on the tokens before it and on the request's routing, and keys are
/// only ever appended: so every sequence with the same beginning can use a node's blocks. The lists of deeper
/// recursions fill more slowly, and a chunk may end in the middle of a block. The keys behind its end belong to the
/// sequence that computed the chunk, so another sequence copies such a block before it appends to it.
struct PrefixNode {
  PrefixNode* parent = nullptr;
  PrefixRouting routing;
  uint64_t hash = 0;  ///< of the tokens of all nodes down to this one, and the routing
  int32_t chunk = 0;  ///< tokens in it
  int32_t lists = 0;  ///< lists of keys
  /// In one piece of memory: the tokens [chunk], their depths [chunk], where the blocks of each list end [lists], and
  /// the blocks.
  std::vector<int32_t> contents;

  std::span<const int32_t> tokens() const { return part(0, chunk); }
  std::span<const int32_t> depths() const { return part(chunk, 2 * chunk); }
  /// The blocks that hold the chunk's keys of a list, in order. The first may begin with keys of the parent.
  std::span<const int32_t> blocks(size_t list) const {
    const int32_t* end = contents.data() + 2 * chunk + list;
    return part(2 * chunk + lists + (list == 0 ? 0 : end[-1]), 2 * chunk + lists + *end);
  }
  std::span<const int32_t> all_blocks() const { return part(2 * chunk + lists, static_cast<int32_t>(contents.size())); }

  int32_t children = 0;
  int32_t users = 0;  ///< sequences under way of which this is the longest known prefix
  uint64_t last_used = 0;
  PrefixNode *older = nullptr, *newer = nullptr;  ///< neighbours of an idle node, in the order of last_used

 private:
  std::span<const int32_t> part(int32_t begin, int32_t end) const {
    return {contents.data() + begin, contents.data() + end};
  }
};

/// Of its methods only `insert` allocates; if it throws std::bad_alloc, nothing has changed.
class PrefixCache {
 public:
  /// The pool must outlive the cache.
  explicit PrefixCache(BlockPool& pool);

  /// The hash of a chunk: that of its parent (for the first chunk, `hash_of(routing)`) continued with `count` tokens.
  static uint64_t extend_hash(uint64_t hash, const int32_t* tokens, size_t count);
  static uint64_t hash_of(const PrefixRouting& routing);

  /// The node of the chunk `tokens` after `parent` (null: at the beginning), or null. Compares the tokens too, because
  /// different tokens may have the same hash.
  PrefixNode* find(uint64_t hash, const PrefixNode* parent, const PrefixRouting& routing, const int32_t* tokens);
  /// Adds `node`, whose parent has users, and becomes a keeper of its blocks; the caller is its first user. Null, and
  /// nothing is added, if there is another prefix of the same hash.
  PrefixNode* insert(PrefixNode node);
  /// Changes with every insertion and eviction, that is, whenever `find` may give another result than before.
  uint64_t version() const { return version_; }

  void add_user(PrefixNode& node);
  void remove_user(PrefixNode& node);

  /// Removes, among the nodes without users and children, the one whose last use is the longest ago. False if there is
  /// none.
  bool evict();
  /// Removes every node, also those with users.
  void clear();

 private:
  bool idle(const PrefixNode& node) const { return node.children == 0 && node.users == 0; }
  void rest(PrefixNode& node);
  void unlink(PrefixNode& node);
  void drop_blocks(const PrefixNode& node);

  BlockPool& pool_;
  std::unordered_map<uint64_t, PrefixNode> nodes_;
  PrefixNode *oldest_ = nullptr, *newest_ = nullptr;  ///< of the idle nodes, in the order of last_used
  uint64_t clock_ = 0, version_ = 0;
};

}  // namespace mor
