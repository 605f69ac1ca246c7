// BlockPool: which blocks of the KV cache are free, in use by sequences, or kept by the prefix cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mor {

/// A block counts the sequences that use it and the cached prefixes that keep it (prefix_cache.h). A block without
/// either is free.
class BlockPool {
 public:
  /// The pool has blocks first .. first + count - 1, all of them free.
  BlockPool(int32_t first, int32_t count);

  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t used() const { return used_; }
  /// Blocks that prefixes keep and no sequence uses.
  int32_t cached() const { return total() - free() - used_; }
  int32_t users(int32_t block) const { return blocks_[index(block)].users; }

  /// Takes a free block for one user. Throws INTERNAL if none is free; the caller checks `free()` first.
  int32_t take();
  /// Adds a user to a block that is not free.
  void share(int32_t block);
  /// Removes a user. Throws INTERNAL for a block without users.
  void give_back(int32_t block);
  /// Adds or removes a prefix that keeps a block, which must not be free.
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
  std::vector<int32_t> free_;  ///< last in, first out, since the last one used may still be in the processor's cache
  std::vector<State> blocks_;
};

}  // namespace mor
