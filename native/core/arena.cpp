// Arena: takes memory in blocks as it grows, and joins them into one on reset.
#include "core/arena.h"

#include <algorithm>

namespace mor {

namespace {
constexpr size_t kAlignment = 64;
constexpr size_t kSmallestBlock = size_t{1} << 16;
size_t align_up(size_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}
}  // namespace

Arena::~Arena() {
  free_blocks();
}

void Arena::free_blocks(size_t first) noexcept {
  if (first == blocks_.size()) return;
  for (size_t i = first; i < blocks_.size(); ++i) resource_.release(blocks_[i].data, blocks_[i].size);
  blocks_.resize(first);
  ++generation_;
}

void Arena::reserve(size_t bytes) {
  release({});
  const size_t size = align_up(std::max<size_t>(bytes, 1));
  if (blocks_.size() == 1 && blocks_[0].size >= size) return;
  free_blocks();  // before the allocation, so that old and new memory need not exist at the same time
  add_block(size);
}

void Arena::add_block(size_t bytes) {
  blocks_.reserve(blocks_.size() + 1);  // first, because nothing may throw between the allocation and its entry
  blocks_.push_back({resource_.allocate(bytes), bytes});
}

void* Arena::allocate(size_t bytes) {
  const size_t size = align_up(std::max<size_t>(bytes, 1));
  const size_t first_empty = used_ > 0 ? block_ + 1 : block_;
  while (block_ < blocks_.size() && used_ + size > blocks_[block_].size) {
    ++block_;
    used_ = 0;
  }
  if (block_ == blocks_.size()) {
    const size_t last = blocks_.empty() ? kSmallestBlock : blocks_.back().size * 2;
    const size_t block_size = std::max(size, std::min(last, size_t{256} << 20));
    if (empty_ == EmptyBlocks::freed) free_blocks(std::min(first_empty, blocks_.size()));
    block_ = blocks_.size();
    used_ = 0;
    add_block(block_size);
  }
  void* pointer = static_cast<char*>(blocks_[block_].data) + used_;
  used_ += size;
  total_ += size;
  peak_ = std::max(peak_, total_);
  return pointer;
}

Tensor Arena::tensor(DType dtype, int64_t rows, int64_t columns, const char* name) {
  MOR_CHECK(rows >= 0 && columns >= 0, INTERNAL, name, ": extents ", rows, " x ", columns);
  return make_tensor(allocate(static_cast<size_t>(rows * columns) * dtype_size(dtype)), dtype, rows, columns, name);
}

Tensor Arena::vector(DType dtype, int64_t n, const char* name) {
  MOR_CHECK(n >= 0, INTERNAL, name, ": extent ", n);
  return make_vector(allocate(static_cast<size_t>(n) * dtype_size(dtype)), dtype, n, name);
}

void Arena::release(const Mark& mark) {
  block_ = mark.block;
  used_ = mark.used;
  total_ = mark.total;
}

void Arena::reset() {
  if (blocks_.size() > 1) return reserve(peak_);
  release({});
}

Arena::Contents Arena::contents() const {
  MOR_CHECK(blocks_.size() <= 1, INTERNAL, "an arena has ", blocks_.size(), " blocks, but one was reserved for all");
  return blocks_.empty() ? Contents{} : Contents{blocks_[0].data, total_};
}

size_t Arena::capacity() const {
  size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.size;
  return bytes;
}

}  // namespace mor
