// The rules of recursion, against the words of docs/model.md.
#include "model/routing_rules.h"

#include <gtest/gtest.h>

#include "test/model/support.h"

namespace mor::test {
namespace {

RoutingRules rules(RouterType router, KvCachePolicy kv_cache = KvCachePolicy::recursion_wise) {
  RoutingRules r;
  r.num_recursions = 3;
  r.block_recurs = true;
  r.router = router;
  r.kv_cache = kv_cache;
  if (router == RouterType::expert_choice) r.runs_all = {true, false, false};
  return r;
}

TEST(RoutingRules, ALimitLowersTheRecursionsOfABlockOnly) {
  RoutingRules r = rules(RouterType::none);
  EXPECT_EQ(r.passes(), 3);
  EXPECT_EQ(r.passes(2), 2);
  EXPECT_EQ(r.passes(9), 3);
  EXPECT_EQ(r.depth(2), 2);
  r.block_recurs = false;
  EXPECT_EQ(r.passes(), 0);
  EXPECT_EQ(r.passes(2), 0);
  EXPECT_EQ(r.depth(0), 3);
}

TEST(RoutingRules, WithoutARouterEveryTokenGoesOn) {
  const RoutingRules r = rules(RouterType::none);
  EXPECT_EQ(r.last_recursion(2, 1), 2);
  EXPECT_TRUE(r.goes_on(2, 2, -100, 0));
  EXPECT_FALSE(r.goes_on(3, 2, 100, 0));
}

/// docs/model.md section 3: a token runs r if its score reaches the threshold, or if the capacity of r is 1.
TEST(RoutingRules, ExpertChoiceAsksTheScoreWhereTheCapacityIsBelowOne) {
  const RoutingRules r = rules(RouterType::expert_choice);
  EXPECT_FALSE(r.asks_router(1));
  EXPECT_TRUE(r.asks_router(2));
  EXPECT_TRUE(r.asks_router(3));
  EXPECT_FALSE(r.asks_router(4)) << "there is no such recursion";
  EXPECT_TRUE(r.goes_on(1, 3, -100, 0.5));
  EXPECT_TRUE(r.goes_on(2, 3, 0.5, 0.5));
  EXPECT_FALSE(r.goes_on(2, 3, 0.4, 0.5));
  EXPECT_FALSE(r.goes_on(3, 2, 100, 0.5)) << "the limit";
}

/// docs/model.md section 4: a token runs the recursions up to the one chosen. Selection by ranges of chosen depths, as
/// in training, and the last recursion of a single token, as in the engine, are the same rule.
TEST(RoutingRules, TokenChoiceGoesOnToTheChosenDepthWithinTheLimit) {
  const RoutingRules rules_of_token_choice = rules(RouterType::token_choice);
  for (int32_t limit = 1; limit <= 3; ++limit)
    for (int32_t chosen = 1; chosen <= 3; ++chosen) {
      const int32_t last = rules_of_token_choice.last_recursion(limit, chosen);
      EXPECT_EQ(last, std::min(limit, chosen));
      for (int32_t r = 1; r <= last; ++r) {
        EXPECT_TRUE(rules_of_token_choice.goes_on(r, last, 0, 0));
        const RoutingRules::ChosenDepths leaving = rules_of_token_choice.leaving_after(r, limit);
        const RoutingRules::ChosenDepths staying = rules_of_token_choice.staying_after(r);
        EXPECT_EQ(leaving.low <= chosen && chosen <= leaving.high, r == last);
        if (r < limit) {
          EXPECT_EQ(staying.low <= chosen && chosen <= staying.high, r < last);
        }
      }
      EXPECT_FALSE(rules_of_token_choice.goes_on(last + 1, last, 0, 0));
    }
}

/// docs/model.md section 5, as a table: the recursion whose key is seen at recursion r of a token that ran `depth`.
TEST(RoutingRules, KeysSeen) {
  struct Row {
    KvCachePolicy policy;
    int32_t seen[3][4];  // [r - 1][depth]
    bool queries_only[3], tokens_that_left, several_lists;
  };
  const Row table[] = {
      {KvCachePolicy::recursion_wise, {{0, 1, 1, 1}, {0, 0, 2, 2}, {0, 0, 0, 3}}, {false, false, false}, false, false},
      {KvCachePolicy::shared, {{0, 1, 1, 1}, {0, 1, 1, 1}, {0, 1, 1, 1}}, {false, true, true}, true, false},
      {KvCachePolicy::hybrid, {{0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 1, 3}}, {false, false, false}, true, true}};
  for (const Row& row : table) {
    SCOPED_TRACE(kv_cache_name(row.policy));
    const RoutingRules of_policy = rules(RouterType::expert_choice, row.policy);
    for (int32_t r = 1; r <= 3; ++r) {
      for (int32_t depth = 0; depth <= 3; ++depth)
        EXPECT_EQ(of_policy.key_seen(r, depth), row.seen[r - 1][depth]) << "r " << r << ", depth " << depth;
      EXPECT_EQ(of_policy.queries_only(r), row.queries_only[r - 1]);
    }
    EXPECT_EQ(of_policy.sees_tokens_that_left(), row.tokens_that_left);
    EXPECT_EQ(of_policy.sees_several_lists(), row.several_lists);
  }
}

TEST(RoutingRules, OfAConfiguration) {
  ModelConfig c = tiny_config();
  EXPECT_FALSE(routing_rules(c).block_recurs);
  EXPECT_EQ(routing_rules(c).num_recursions, 1);
  c.num_hidden_layers = 8;
  c.num_recursions = 3;
  c.sharing = Sharing::middle_sequence;
  EXPECT_FALSE(routing_rules(c).block_recurs);
  EXPECT_EQ(routing_rules(c).depth(0), 3);
  c.sharing = Sharing::middle_cycle;
  c.kv_cache = KvCachePolicy::shared;
  c.router.type = RouterType::expert_choice;
  c.router.capacities = {1, 1, 0.5};
  EXPECT_TRUE(routing_rules(c).block_recurs);
  EXPECT_EQ(routing_rules(c).kv_cache, KvCachePolicy::shared);
  EXPECT_EQ(routing_rules(c).runs_all, (std::vector<bool>{true, true, false}));
}

}  // namespace
}  // namespace mor::test
