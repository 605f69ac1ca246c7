// BlockPool: which blocks of the KV cache are free, in use, or kept for later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mor {

/// A block has users, which are the sequences that hold it, and keepers, which are the prefixes that name it
/// (prefix_cache.h). A block with neither is free.
class BlockPool {
 public:
  /// The pool has blocks first .. first + count - 1, all of them free.
  BlockPool(int32_t first, int32_t count);

  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t used() const { return used_; }
  /// Blocks with keepers and no users.
  int32_t cached() const { return total() - free() - used_; }
  int32_t users(int32_t block) const { return blocks_[index(block)].users; }

  /// Takes a free block for its first user. Throws INTERNAL if none is free: the caller asks `free()` first.
  int32_t take();
  /// Adds a user to a block that is not free.
  void share(int32_t block);
  /// Takes a user away. Throws INTERNAL for a block without users.
  void give_back(int32_t block);
  /// Adds a keeper to a block that is not free, or takes one away.
  void keep(int32_t block);
  void drop(int32_t block);

 private:
  struct State {
    int32_t users = 0, keepers = 0;
  };
  size_t index(int32_t block) const;
  State& taken(int32_t block);
  void free_if_unwanted(int32_t block);

  int32_t first_, used_ = 0;
  std::vector<int32_t> free_;  ///< last in, first out: the block used last may still be in the processor's caches
  std::vector<State> blocks_;
};

}  // namespace mor
