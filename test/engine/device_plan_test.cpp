// Tests of DevicePlan: a plan uploaded as it is, or padded with rows that belong to no token.
#include "engine/device_plan.h"

#include <gtest/gtest.h>

#include "ops/ref/ref_ops.h"

namespace mor::test {
namespace {

constexpr int32_t kStreamRows = 100, kSpareSlot = 60;

/// Five sequences of one row, two at recursion 1 and three at recursion 3 of three.
StagePlan block_plan() {
  static std::vector<int32_t> blocks = {7, 8};
  StagePlan plan;
  plan.groups.assign(5, nullptr);
  plan.start = {0, 1, 2, 3, 4, 5};
  plan.slot = {31, 30, 12, 11, 10};
  plan.position = {4, 3, 2, 1, 0};
  plan.visible = {5, 4, 3, 2, 1};
  plan.cache_slot = {54, 53, 52, 51, 50};
  plan.table.assign(5, blocks.data());
  plan.block_size = 4;
  plan.blocks_per_group = 2;
  plan.max_rows = 1;
  plan.max_keys = 5;
  plan.recursion_start = {0, 2, 2, 5};
  return plan;
}

class DevicePlanTest : public testing::Test {
 protected:
  DevicePlan upload(const StagePlan& plan, bool records, bool two_sources = false) {
    PlanUpload uploads(ops_, two_sources, kStreamRows, kSpareSlot);
    return uploads(plan, extent_of(plan, records, true), arena_);
  }
  static std::vector<int32_t> read(const int32_t* values, int64_t n) { return {values, values + n}; }

  RefOps<double> ops_;  // its device memory is host memory
  Arena arena_{ops_};
};

using Integers = std::vector<int32_t>;

TEST_F(DevicePlanTest, IsThePlanWhereNothingIsRecorded) {
  const StagePlan plan = block_plan();
  const DevicePlan d = upload(plan, false);
  EXPECT_FALSE(d.extent.recorded);
  EXPECT_EQ(d.rows.count, 5);
  EXPECT_EQ(d.rows.max_keys, 5);
  EXPECT_EQ(read(d.slot, 5), plan.slot);
  EXPECT_EQ(d.source, d.slot);
  EXPECT_EQ(read(d.rows.visible, 5), plan.visible);
  EXPECT_EQ(read(d.rows.start, 6), plan.start);
  EXPECT_EQ(read(d.rows.block_table, 4), (Integers{7, 8, 7, 0})) << "blocks beyond the keys that are seen are not read";
  ASSERT_EQ(d.recursions.size(), 2u);
  EXPECT_EQ(d.recursions[1].recursion, 3);
  EXPECT_EQ(d.recursions[1].first, 2);
  EXPECT_EQ(d.recursions[1].rows, 3);
  EXPECT_EQ(d.recursions[1].at, 2);
  EXPECT_EQ(d.scores, 5);
  EXPECT_EQ(d.score_of, nullptr);
  EXPECT_TRUE(d.host_score_of.empty());
}

TEST_F(DevicePlanTest, IsFilledUpWithRowsThatNoTokenHas) {
  const DevicePlan d = upload(block_plan(), true);
  EXPECT_TRUE(d.extent.recorded);
  EXPECT_EQ(d.rows.count, 8);
  EXPECT_EQ(d.rows.key_lists, 8);
  EXPECT_EQ(d.rows.max_keys, 256);
  EXPECT_EQ(d.rows.blocks_per_list, 64);
  EXPECT_EQ(read(d.slot, 8), (Integers{31, 30, 12, 11, 10, 60, 61, 62}));
  EXPECT_EQ(read(d.rows.visible, 8), (Integers{5, 4, 3, 2, 1, 0, 0, 0}));
  EXPECT_EQ(read(d.rows.slot, 8), (Integers{54, 53, 52, 51, 50, -1, -1, -1}));
  EXPECT_EQ(read(d.rows.start, 9), (Integers{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(read(d.rows.block_table + 7 * 64, 64), Integers(64, 0));
}

TEST_F(DevicePlanTest, EveryRowTakesTheScoreOfItsOwnRecursion) {
  const DevicePlan d = upload(block_plan(), true);
  ASSERT_EQ(d.recursions.size(), 2u);
  for (const RecursionRows& at : d.recursions) {
    EXPECT_EQ(at.first, 0);
    EXPECT_EQ(at.rows, 8);
  }
  EXPECT_EQ(d.scores, 16);
  EXPECT_EQ(d.host_score_of, (Integers{0, 1, 10, 11, 12}));
  EXPECT_EQ(read(d.score_of, 8), (Integers{0, 1, 10, 11, 12, 0, 0, 0}));
}

TEST_F(DevicePlanTest, LaterRecursionsReadTheSecondSourceAndExitsAreFilledUp) {
  StagePlan plan = block_plan();
  plan.exits = {1, 4};
  const DevicePlan d = upload(plan, true, true);
  EXPECT_EQ(read(d.source, 5), (Integers{31, 30, 112, 111, 110}));
  EXPECT_EQ(d.exit_count, 8);
  EXPECT_EQ(read(d.exits, 8), (Integers{1, 4, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(read(d.exit_slot, 8), (Integers{30, 10, 60, 61, 62, 63, 64, 65}));
}

TEST_F(DevicePlanTest, PlansOfOneExtentLieAlike) {
  StagePlan small = block_plan(), large = block_plan();
  small.exits = {0};
  large.exits = {0, 1, 2};
  large.blocks_per_group = 1;
  large.max_keys = 4;
  large.visible.assign(5, 4);
  const DevicePlan a = upload(small, true, true);
  arena_.reset();
  const DevicePlan b = upload(large, true, true);
  EXPECT_EQ(a.slot, b.slot);
  EXPECT_EQ(a.rows.block_table, b.rows.block_table);
  EXPECT_EQ(a.exits, b.exits);
  EXPECT_EQ(a.exit_slot, b.exit_slot);
  EXPECT_EQ(a.score_of, b.score_of);
}

TEST(Extent, RowsAreRoundedUpSoThatFewSizesServeAll) {
  const std::vector<std::pair<int32_t, int32_t>> expected = {{1, 1}, {3, 4}, {33, 64}, {64, 64}, {65, 128}, {150, 192}};
  for (const auto& [rows, rounded] : expected) EXPECT_EQ(rounded_rows(rows), rounded);
  StagePlan plan = block_plan();
  plan.max_keys = 257;
  EXPECT_EQ(extent_of(plan, true, true).keys, 512);
  EXPECT_EQ(extent_of(plan, true, false).keys, 0) << "no layers, no keys";
  plan.max_rows = 2;
  EXPECT_FALSE(extent_of(plan, true, true).recorded) << "a prompt's rows";
}

}  // namespace
}  // namespace mor::test
