// Tests of BlockPool: every block is given out once, and comes back.
#include "engine/block_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "core/check.h"

namespace mor::test {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(3, 5);
  std::set<int32_t> taken;
  for (int i = 0; i < 5; ++i) taken.insert(pool.take());
  EXPECT_EQ(taken, (std::set<int32_t>{3, 4, 5, 6, 7}));
  EXPECT_EQ(pool.free(), 0);
  EXPECT_EQ(pool.used(), 5);
  EXPECT_THROW(pool.take(), Error);
  pool.give_back(5);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.take(), 5);
}

TEST(BlockPool, ABlockIsFreeOnceNobodyUsesOrKeepsIt) {
  BlockPool pool(3, 2);
  const int32_t block = pool.take();
  pool.share(block);
  pool.keep(block);
  pool.give_back(block);
  EXPECT_EQ(pool.used(), 1);
  EXPECT_EQ(pool.users(block), 1);
  pool.give_back(block);
  EXPECT_EQ(pool.used(), 0);
  EXPECT_EQ(pool.cached(), 1);
  EXPECT_EQ(pool.free(), 1);
  pool.share(block);
  EXPECT_EQ(pool.used(), 1);
  EXPECT_EQ(pool.cached(), 0);
  pool.drop(block);
  EXPECT_EQ(pool.free(), 1);
  pool.give_back(block);
  EXPECT_EQ(pool.free(), 2);
  EXPECT_THROW(pool.share(block), Error);
  EXPECT_THROW(pool.keep(block), Error);
  EXPECT_THROW(pool.drop(block), Error);
}

TEST(BlockPool, TakesBackOnlyWhatIsOut) {
  BlockPool pool(2, 4);
  const int32_t block = pool.take();
  pool.give_back(block);
  EXPECT_THROW(pool.give_back(block), Error);
  EXPECT_THROW(pool.give_back(1), Error);
  EXPECT_THROW(pool.give_back(6), Error);
  EXPECT_EQ(pool.free(), 4);
}

}  // namespace
}  // namespace mor::test
