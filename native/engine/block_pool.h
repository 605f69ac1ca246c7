// BlockPool: which fixed-size blocks of the KV cache are free. Must not know what a block holds or where it lies.
#pragma once

#include <cstdint>
#include <vector>

namespace mor {

class BlockPool {
 public:
  /// Blocks first .. first + count - 1, all free.
  BlockPool(int32_t first, int32_t count);

  int32_t total() const { return static_cast<int32_t>(taken_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t used() const { return total() - free(); }

  /// Throws INTERNAL where none is free: the caller asks `free()` first.
  int32_t take();
  /// Throws INTERNAL for a block that is not taken.
  void give_back(int32_t block);

 private:
  int32_t first_;
  std::vector<int32_t> free_;  ///< last in, first out: what was used last is in the caches still
  std::vector<bool> taken_;
};

}  // namespace mor
