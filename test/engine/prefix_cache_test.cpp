// Tests of PrefixCache: it finds the inserted prefixes and nothing else, and evicts the one that was unused for
// longest.
#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include "core/check.h"

namespace mor::test {
namespace {

class Prefixes : public testing::Test {
 protected:
  /// Inserts a chunk of two tokens after `parent` for a sequence that then ends.
  PrefixNode* tell(PrefixNode* parent, const std::vector<int32_t>& tokens, PrefixRouting routing = {0.5, 3}) {
    PrefixNode node;
    node.parent = parent;
    node.routing = routing;
    node.hash = hash(parent, tokens, routing);
    node.chunk = 2;
    node.lists = 1;
    const int32_t block = pool.take();
    node.contents = {tokens[0], tokens[1], 1, 2, 1, block};
    if (parent != nullptr) cache.add_user(*parent);
    PrefixNode* told = cache.insert(std::move(node));
    if (parent != nullptr) cache.remove_user(*parent);
    if (told != nullptr) cache.remove_user(*told);
    pool.give_back(block);
    return told;
  }
  uint64_t hash(const PrefixNode* parent, const std::vector<int32_t>& tokens, PrefixRouting routing = {0.5, 3}) {
    return PrefixCache::extend_hash(parent != nullptr ? parent->hash : PrefixCache::hash_of(routing), tokens.data(),
                                    tokens.size());
  }
  PrefixNode* find(const PrefixNode* parent, const std::vector<int32_t>& tokens, PrefixRouting routing = {0.5, 3}) {
    return cache.find(hash(parent, tokens, routing), parent, routing, tokens.data());
  }

  BlockPool pool{0, 6};
  PrefixCache cache{pool};
};

TEST_F(Prefixes, FindsTheSameTokensAfterTheSameTokensUnderTheSameRouting) {
  PrefixNode* const first = tell(nullptr, {1, 2});
  PrefixNode* const second = tell(first, {3, 4});
  EXPECT_EQ(find(nullptr, {1, 2}), first);
  EXPECT_EQ(find(first, {3, 4}), second);
  EXPECT_EQ(find(nullptr, {3, 4}), nullptr);
  EXPECT_EQ(find(nullptr, {2, 1}), nullptr);
  EXPECT_EQ(find(second, {3, 4}), nullptr);
  EXPECT_EQ(find(nullptr, {1, 2}, {0.5, 2}), nullptr);
  EXPECT_EQ(find(nullptr, {1, 2}, {0.25, 3}), nullptr);
  EXPECT_EQ(pool.cached(), 2);
}

TEST_F(Prefixes, AnEqualHashIsNoProof) {
  PrefixNode* const node = tell(nullptr, {1, 2});
  const std::vector<int32_t> others = {5, 6};
  EXPECT_EQ(cache.find(node->hash, nullptr, {0.5, 3}, others.data()), nullptr);
  PrefixNode clash = *node;
  clash.contents[0] = others[0];
  EXPECT_EQ(cache.insert(clash), nullptr);
  EXPECT_EQ(find(nullptr, {1, 2}), node);
  EXPECT_EQ(pool.cached(), 1) << "what was not inserted keeps nothing";
}

TEST_F(Prefixes, EvictsLeavesInTheOrderOfTheirLastUse) {
  PrefixNode* const root = tell(nullptr, {1, 2});
  PrefixNode* const used_again = tell(root, {3, 4});
  tell(root, {5, 6});
  tell(nullptr, {7, 8});
  cache.add_user(*used_again);
  cache.remove_user(*used_again);
  EXPECT_EQ(pool.cached(), 4);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(find(root, {5, 6}), nullptr);
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(find(nullptr, {7, 8}), nullptr);
  EXPECT_EQ(find(root, {3, 4}), used_again) << "the inner node outlives its child";
  EXPECT_TRUE(cache.evict());
  EXPECT_EQ(find(nullptr, {1, 2}), root);
  EXPECT_TRUE(cache.evict());
  EXPECT_FALSE(cache.evict());
  EXPECT_EQ(pool.free(), 6);
}

TEST_F(Prefixes, EvictsNothingThatIsInUse) {
  PrefixNode* const root = tell(nullptr, {1, 2});
  PrefixNode* const leaf = tell(root, {3, 4});
  cache.add_user(*leaf);
  EXPECT_FALSE(cache.evict());
  cache.remove_user(*leaf);
  EXPECT_TRUE(cache.evict());
}

TEST_F(Prefixes, ClearGivesEverythingBackButWhatSequencesUse) {
  PrefixNode* const root = tell(nullptr, {1, 2});
  tell(root, {3, 4});
  const int32_t block = root->blocks(0)[0];
  pool.share(block);
  cache.add_user(*root);
  cache.clear();
  EXPECT_EQ(find(nullptr, {1, 2}), nullptr);
  EXPECT_EQ(pool.cached(), 0);
  EXPECT_EQ(pool.used(), 1);
  pool.give_back(block);
  EXPECT_EQ(pool.free(), 6);
  EXPECT_FALSE(cache.evict());
}

}  // namespace
}  // namespace mor::test
