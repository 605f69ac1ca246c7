// BlockPool: which fixed-size blocks of the KV cache are free, in use, or kept for later. Must not know what a block
// holds or where it lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mor {

/// A block is used by the sequences that hold it and kept by the prefixes that name it (prefix_cache.h); with neither
/// it is free.
class BlockPool {
 public:
  /// Blocks first .. first + count - 1, all free.
  BlockPool(int32_t first, int32_t count);

  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t used() const { return used_; }
  /// Kept, and used by nobody.
  int32_t cached() const { return total() - free() - used_; }
  int32_t users(int32_t block) const { return blocks_[index(block)].users; }

  /// A free block, with one user. Throws INTERNAL where none is free: the caller asks `free()` first.
  int32_t take();
  /// One user more of a block that is not free.
  void share(int32_t block);
  /// One user less. Throws INTERNAL for a block that nobody uses.
  void give_back(int32_t block);
  /// One prefix more, or less, that names a block which is not free.
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
  std::vector<int32_t> free_;  ///< last in, first out: what was used last is in the caches still
  std::vector<State> blocks_;
};

}  // namespace mor
