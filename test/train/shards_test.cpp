// Tests of how flat buffers are divided among ranks.
#include "train/shards.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mor::test {
namespace {

/// Every element is kept by exactly one rank, as part of a piece that is where the bucket says, and what ranks keep of
/// any range are the elements of the range.
TEST(Shards, EveryElementIsOnOneRank) {
  for (const int32_t ranks : {1, 2, 3, 4, 7})
    for (const int64_t size : {0, 1, 5, 64, 1000, 4097})
      for (const int64_t bucket : {1, 100, 640, 100000}) {
        const int64_t all = size * ranks;
        std::vector<int> owners(static_cast<size_t>(all), 0);
        for (int32_t rank = 0; rank < ranks; ++rank) {
          const Shards shards(all, rank, ranks, bucket);
          EXPECT_EQ(shards.kept(), size);
          int64_t end = 0, kept = 0;
          for (const Bucket& b : shards.buckets()) {
            EXPECT_EQ(b.begin, end);
            EXPECT_EQ(b.kept, kept);
            EXPECT_GE(b.piece, 1);
            EXPECT_LE(b.piece * ranks, bucket + 64 * ranks);
            if (&b != &shards.buckets().back()) {
              EXPECT_EQ(b.piece % 64, 0);
            }
            end += b.piece * ranks;
            kept += b.piece;
          }
          EXPECT_EQ(end, all);
          EXPECT_EQ(kept, size);
          // The whole buffer as three ranges.
          const int64_t cuts[] = {0, all / 3, all / 3 + std::min<int64_t>(all / 3, 70), all};
          int64_t next = 0;
          for (int i = 0; i < 3; ++i)
            for (const Shard& shard : shards.of(cuts[i], cuts[i + 1] - cuts[i])) {
              const Bucket& b = shards.buckets().at(shard.bucket);
              EXPECT_EQ(shard.kept, next);
              EXPECT_EQ(shard.begin - shards.own_begin(b), shard.kept - b.kept);
              EXPECT_GE(shard.begin, cuts[i]);
              EXPECT_LE(shard.begin + shard.count, cuts[i + 1]);
              next += shard.count;
              for (int64_t e = shard.begin; e < shard.begin + shard.count; ++e) ++owners.at(static_cast<size_t>(e));
            }
          EXPECT_EQ(next, size);
        }
        EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), all) << size << " on " << ranks << ", " << bucket;
      }
}

TEST(Shards, OneRankHasWholeRanges) {
  const Shards shards(1000, 0, 1, 1000);
  ASSERT_EQ(shards.buckets().size(), 1u);
  const std::vector<Shard> of = shards.of(130, 77);
  ASSERT_EQ(of.size(), 1u);
  EXPECT_EQ(of[0].begin, 130);
  EXPECT_EQ(of[0].kept, 130);
  EXPECT_EQ(of[0].count, 77);
}

}  // namespace
}  // namespace mor::test
