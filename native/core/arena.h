// Arena: device memory that is handed out and taken back like a stack, for the tensors of one step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace mor {

/// Where memory comes from; every device's Ops is one.
class MemoryResource {
 public:
  virtual ~MemoryResource() = default;
  /// At least 64-byte aligned. Throws OUT_OF_MEMORY with the size asked for.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* pointer, size_t bytes) noexcept = 0;
};

class Arena {
 public:
  /// What becomes of blocks that hold nothing and are too small, when another one is needed.
  enum class EmptyBlocks {
    kept,  ///< because recorded work may have their addresses
    freed  ///< so that an arena without a reset never holds the sum of all that it ever handed out
  };
  explicit Arena(MemoryResource& resource, EmptyBlocks empty = EmptyBlocks::kept)
      : resource_(resource), empty_(empty) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Frees everything and reserves one block of `bytes`, so that the calls of a step neither allocate nor return other
  /// addresses than in the step before. A block that is large enough is kept. bytes: the `peak` of a run of the same
  /// calls.
  void reserve(size_t bytes);
  /// Uninitialised memory, 64-byte aligned, valid until the end of the ArenaScope in which it was allocated, or reset.
  void* allocate(size_t bytes);
  /// Room for n elements of T, likewise.
  template <class T>
  T* array(int64_t n) {
    return static_cast<T*>(allocate(static_cast<size_t>(n) * sizeof(T)));
  }
  Tensor tensor(DType dtype, int64_t rows, int64_t columns, const char* name);
  Tensor vector(DType dtype, int64_t n, const char* name);

  /// Frees everything. If more than one block was needed, one block of the peak size replaces them, so that later steps
  /// of the same size have every tensor at the same address.
  void reset();

  /// The one block and how much of it is in use. Throws INTERNAL if there are several, because `reserve` got too few
  /// bytes.
  struct Contents {
    void* data = nullptr;
    size_t bytes = 0;
  };
  Contents contents() const;

  size_t capacity() const;
  /// A number that rises whenever a block is given back to the resource: from then on an address may belong to another
  /// block than before, even if it is the same number.
  uint64_t generation() const { return generation_; }
  size_t used() const { return total_; }  ///< bytes handed out
  size_t peak() const { return peak_; }   ///< the most that they ever were

 private:
  struct Block {
    void* data;
    size_t size;
  };
  friend class ArenaScope;
  /// A position in the stack; `release` frees everything that was allocated since.
  struct Mark {
    size_t block = 0, used = 0, total = 0;
  };
  Mark mark() const { return {block_, used_, total_}; }
  void release(const Mark& mark);
  void add_block(size_t bytes);
  void free_blocks(size_t first = 0) noexcept;

  MemoryResource& resource_;
  const EmptyBlocks empty_;
  std::vector<Block> blocks_;
  size_t block_ = 0;  ///< the block being filled
  size_t used_ = 0;   ///< bytes used of it
  size_t total_ = 0;  ///< bytes used of all blocks
  size_t peak_ = 0;
  uint64_t generation_ = 0;
};

/// Frees at its end what was allocated from the arena since its beginning, also where an exception ends it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.release(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace mor
