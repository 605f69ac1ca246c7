// BlockPool: a free list. Must not know what a block holds or where it lies.
#include "engine/block_pool.h"

#include "core/check.h"

namespace mor {

BlockPool::BlockPool(int32_t first, int32_t count) : first_(first), taken_(static_cast<size_t>(count), false) {
  free_.reserve(taken_.size());
  for (int32_t block = first + count; block-- > first;) free_.push_back(block);
}

int32_t BlockPool::take() {
  MOR_CHECK(!free_.empty(), INTERNAL, "all ", total(), " KV blocks are taken");
  const int32_t block = free_.back();
  free_.pop_back();
  taken_[static_cast<size_t>(block - first_)] = true;
  return block;
}

void BlockPool::give_back(int32_t block) {
  MOR_CHECK(block >= first_ && block - first_ < total() && taken_[static_cast<size_t>(block - first_)], INTERNAL,
            "KV block ", block, " is not taken");
  taken_[static_cast<size_t>(block - first_)] = false;
  free_.push_back(block);
}

}  // namespace mor
