// BlockPool: a list of free blocks, and the numbers of users and keepers of each block.
#include "engine/block_pool.h"

#include "core/check.h"

namespace mor {

BlockPool::BlockPool(int32_t first, int32_t count) : first_(first), blocks_(static_cast<size_t>(count)) {
  free_.reserve(blocks_.size());
  for (int32_t block = first + count; block-- > first;) free_.push_back(block);
}

int32_t BlockPool::take() {
  MOR_CHECK(!free_.empty(), INTERNAL, "none of ", total(), " KV blocks is free");
  const int32_t block = free_.back();
  free_.pop_back();
  blocks_[index(block)].users = 1;
  ++used_;
  return block;
}

void BlockPool::share(int32_t block) {
  if (taken(block).users++ == 0) ++used_;
}

void BlockPool::give_back(int32_t block) {
  State& state = taken(block);
  MOR_CHECK(state.users > 0, INTERNAL, "KV block ", block, " has no user");
  if (--state.users == 0) --used_;
  free_if_unwanted(block);
}

void BlockPool::keep(int32_t block) {
  ++taken(block).keepers;
}

void BlockPool::drop(int32_t block) {
  State& state = taken(block);
  MOR_CHECK(state.keepers > 0, INTERNAL, "KV block ", block, " has no keeper");
  --state.keepers;
  free_if_unwanted(block);
}

size_t BlockPool::index(int32_t block) const {
  MOR_CHECK(block >= first_ && block - first_ < total(), INTERNAL, "KV block ", block, " is not one of ", first_,
            " to ", first_ + total() - 1);
  return static_cast<size_t>(block - first_);
}

BlockPool::State& BlockPool::taken(int32_t block) {
  State& state = blocks_[index(block)];
  MOR_CHECK(state.users + state.keepers > 0, INTERNAL, "KV block ", block, " is free");
  return state;
}

void BlockPool::free_if_unwanted(int32_t block) {
  const State& state = blocks_[index(block)];
  if (state.users + state.keepers == 0) free_.push_back(block);
}

}  // namespace mor
