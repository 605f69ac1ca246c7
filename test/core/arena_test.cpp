// Tests of Arena: one block where the size was reserved, several blocks that become one where it was not, and what the
// arena reports of its memory.
#include "core/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace mor::test {
namespace {

/// Host memory of a limited amount, which counts allocations.
class Limited final : public MemoryResource {
 public:
  explicit Limited(size_t bytes) : left_(bytes) {}
  void* allocate(size_t bytes) override {
    MOR_CHECK(!refused && bytes <= left_, OUT_OF_MEMORY, "no ", bytes, " bytes left");
    left_ -= bytes;
    ++allocations;
    return std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  }
  void release(void* pointer, size_t bytes) noexcept override {
    left_ += bytes;
    std::free(pointer);
  }
  size_t left() const { return left_; }
  int allocations = 0;
  bool refused = false;  ///< whether the next allocations fail

 private:
  size_t left_;
};

TEST(Arena, GrowsByBlocksThatResetMakesOne) {
  Limited memory(size_t{1} << 30);
  Arena arena(memory);
  for (int i = 0; i < 40; ++i) arena.allocate(10000);
  EXPECT_GT(memory.allocations, 1);
  EXPECT_THROW(arena.contents(), Error);
  const size_t peak = arena.peak();
  EXPECT_GE(peak, size_t{400000});
  arena.reset();
  EXPECT_EQ(arena.capacity(), peak);
  const int before = memory.allocations;
  std::vector<void*> first, second;
  for (int i = 0; i < 40; ++i) first.push_back(arena.allocate(10000));
  arena.reset();
  for (int i = 0; i < 40; ++i) second.push_back(arena.allocate(10000));
  EXPECT_EQ(first, second);
  EXPECT_EQ(memory.allocations, before);
}

TEST(Arena, AScopeFreesWhatCameAfterItAlsoOnAnException) {
  Limited memory(size_t{1} << 20);
  Arena arena(memory);
  arena.allocate(100);
  const size_t before = arena.used();
  {
    const ArenaScope scope(arena);
    arena.allocate(1000);
  }
  EXPECT_EQ(arena.used(), before);
  EXPECT_THROW(
      {
        const ArenaScope scope(arena);
        arena.allocate(1000);
        arena.allocate(size_t{1} << 30);
      },
      Error);
  EXPECT_EQ(arena.used(), before);
}

TEST(Arena, HoldsNoEmptyBlockThatIsTooSmallWhereNoneIsKept) {
  constexpr size_t kMiB = size_t{1} << 20;
  Limited memory(8192 * kMiB);  // of which nothing is touched
  Arena arena(memory, Arena::EmptyBlocks::freed);
  const uint64_t first = arena.generation();
  for (size_t mib = 300; mib <= 320; ++mib) {
    const ArenaScope scope(arena);
    arena.allocate(kMiB);
    const ArenaScope inner(arena);
    arena.allocate(mib * kMiB);
    arena.allocate(mib * kMiB);
  }
  EXPECT_LE(arena.capacity(), size_t{3 * 320} * kMiB);
  EXPECT_GT(arena.generation(), first);
  const int before = memory.allocations;
  for (size_t mib = 320; mib >= 300; --mib) {
    const ArenaScope scope(arena);
    arena.allocate(kMiB);
    arena.allocate(mib * kMiB);
    arena.allocate(mib * kMiB);
  }
  EXPECT_EQ(memory.allocations, before);
}

TEST(Arena, ABlockInUseIsNotFreedAndAFailedOneLeavesTheOthers) {
  Limited memory(size_t{1} << 30);
  Arena arena(memory, Arena::EmptyBlocks::freed);
  const ArenaScope scope(arena);
  char* used = static_cast<char*>(arena.allocate(1000));
  std::fill_n(used, 1000, 'x');
  for (size_t bytes = 100000; bytes < 500000; bytes += 50000) {
    const ArenaScope inner(arena);
    std::fill_n(static_cast<char*>(arena.allocate(bytes)), bytes, 'y');
  }
  EXPECT_THROW(arena.allocate(size_t{1} << 31), Error);
  EXPECT_EQ(std::count(used, used + 1000, 'x'), 1000);
  EXPECT_EQ(arena.used(), size_t{1024});
  std::fill_n(static_cast<char*>(arena.allocate(500000)), 500000, 'z');
  EXPECT_EQ(std::count(used, used + 1000, 'x'), 1000);
}

TEST(Arena, AnotherGenerationOnceMemoryWasGivenBack) {
  Limited memory(size_t{1} << 20);
  Arena arena(memory);
  arena.allocate(1000);
  const uint64_t first = arena.generation();
  arena.reset();
  arena.allocate(2000);
  EXPECT_EQ(arena.generation(), first) << "the one block stayed";
  arena.allocate(100000);
  memory.refused = true;
  EXPECT_THROW(arena.reset(), Error);
  memory.refused = false;
  EXPECT_EQ(arena.capacity(), 0u);
  EXPECT_EQ(memory.left(), size_t{1} << 20);
  arena.allocate(1000);
  EXPECT_NE(arena.generation(), first) << "whether it lies at the old address or not";
}

TEST(Arena, WhatWasReservedIsOneBlockOfThatPeak) {
  Limited memory(size_t{1} << 30);
  Arena counted(memory), arena(memory);
  const auto work = [](Arena& a) {
    {
      const ArenaScope scope(a);
      a.allocate(1);
      a.allocate(100000);
    }
    a.allocate(70001);
    a.allocate(0);
  };
  work(counted);
  arena.reserve(counted.peak());
  const int before = memory.allocations;
  work(arena);
  EXPECT_EQ(memory.allocations, before);
  EXPECT_EQ(arena.peak(), counted.peak());
  EXPECT_EQ(arena.capacity(), counted.peak());
  EXPECT_EQ(arena.contents().bytes, size_t{70016 + 64});
  void* data = arena.contents().data;
  arena.reserve(100);  // the arena has this much already
  EXPECT_EQ(memory.allocations, before);
  EXPECT_EQ(arena.contents().data, data);
  EXPECT_EQ(arena.contents().bytes, 0u);
}

TEST(Arena, WhatCannotBeReservedLeavesNothingBehind) {
  Limited memory(100000);
  {
    Arena arena(memory);
    arena.reserve(60000);
    arena.reserve(90000);  // releases the old block before it allocates
    EXPECT_EQ(arena.capacity(), size_t{90048});
    EXPECT_THROW(arena.reserve(200000), Error);
    EXPECT_EQ(arena.capacity(), 0u);
    EXPECT_EQ(arena.contents().data, nullptr);
    arena.reserve(50000);
    EXPECT_NE(arena.allocate(50000), nullptr);
  }
  EXPECT_EQ(memory.left(), size_t{100000});
}

}  // namespace
}  // namespace mor::test
