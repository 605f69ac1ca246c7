// GhostDevice: a device that computes nothing, but checks that every row of a plan sees the right keys.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "core/rng.h"
#include "engine/scheduler.h"

namespace mor::test {

/// It remembers which key is in every cache slot, and checks that each row of a plan sees exactly the keys that
/// docs/model.md section 5 names. A key is identified by all tokens up to its own and by the request's routing, as real
/// keys are. Routers "find" a hash of that and of the recursion, and sampling finds a hash of the request's seed, so
/// both are the same however requests are scheduled.
class GhostDevice {
 public:
  GhostDevice(const SchedulerConfig& config, uint64_t seed) : config_(config), seed_(seed) {}

  /// In [0, 1), from everything that a real router's score depends on.
  double random(const Request& request, int32_t position, int32_t what) const {
    return uniform(identity(request, position), static_cast<uint64_t>(what));
  }
  /// The depth that is reported of a token in the end.
  int32_t depth(const Request& request, int32_t position) const {
    return config_.rules.block_recurs ? passes(request, position) : config_.rules.num_recursions;
  }
  /// How often a token goes through the block in the end.
  int32_t passes(const Request& request, int32_t position) const {
    const int32_t limit = request.max_recursions;
    switch (config_.rules.router) {
      case RouterType::none:
        return limit;
      case RouterType::token_choice:
        return std::min(limit, chosen(request, position));
      case RouterType::expert_choice:
        for (int32_t r = 1; r <= limit; ++r)
          if (!config_.rules.runs_all[static_cast<size_t>(r) - 1] &&
              random(request, position, r) < request.score_threshold)
            return r - 1;
        return limit;
    }
    return 0;
  }
  int32_t token(const Request& request, int32_t index) const {
    return static_cast<int32_t>(1000 * uniform(request.seed, static_cast<uint64_t>(index)));
  }

  StageOutcome run_entry(const StagePlan& plan) {
    copy_blocks(plan);
    check_rows(plan);
    if (config_.layers_outside_block) check_keys(plan, 0);
    for_rows(plan, [&](const Sequence& s, size_t i) {
      const int32_t position = plan.position[i];
      EXPECT_EQ(plan.token[i], s.tokens[static_cast<size_t>(position)]);
      stream_[plan.slot[i]] = {identity(s.request, position), position, 0};
    });
    return next_recursion(plan);
  }

  StageOutcome run_block(const StagePlan& plan) {
    check_rows(plan);
    for (int32_t r = 1; r <= config_.rules.passes(); ++r) check_keys(plan, r);
    size_t gate = 0, exit = 0;
    for_rows(plan, [&](const Sequence& s, size_t i) {
      auto& [id, position, depth] = stream_[plan.slot[i]];
      EXPECT_EQ(id, identity(s.request, plan.position[i]));
      EXPECT_EQ(position, plan.position[i]);
      EXPECT_EQ(++depth, s.recursion) << "the depth rises by one in every pass";
      EXPECT_LE(depth, passes(s.request, position));
      if (config_.rules.router == RouterType::token_choice && depth == passes(s.request, position)) {
        ASSERT_LT(exit, plan.exits.size());
        EXPECT_EQ(plan.exits[exit++], static_cast<int32_t>(i));
        EXPECT_EQ(plan.gate[gate++], random(s.request, position, 21));
      }
    });
    EXPECT_EQ(gate, plan.gate.size());
    return next_recursion(plan);
  }

  StageOutcome run_exit(const StagePlan& plan) {
    check_rows(plan);
    if (config_.layers_outside_block) check_keys(plan, 0);
    for_rows(plan, [&](const Sequence& s, size_t i) {
      const auto [id, position, depth] = stream_[plan.slot[i]];
      EXPECT_EQ(id, identity(s.request, plan.position[i]));
      EXPECT_EQ(position, plan.position[i]);
      EXPECT_EQ(depth, passes(s.request, position)) << "left the block too early or too late";
    });
    StageOutcome outcome;
    for (size_t i = 0; i < plan.sampled.size(); ++i) {
      const Sequence& s = *plan.sampled[i];
      EXPECT_EQ(plan.slot[static_cast<size_t>(plan.last[i])], plan.last_slot[i]);
      EXPECT_EQ(std::get<1>(stream_[plan.last_slot[i]]), s.length() - 1);
      outcome.token.push_back(token(s.request, s.generated()));
      outcome.logprob.push_back(-1);
    }
    for (size_t i = 0; i < plan.scored.size(); ++i) {
      const Sequence& s = *plan.scored[i];
      const size_t at = plan.sampled.size() + i;
      const auto row = static_cast<size_t>(plan.last[at]);
      EXPECT_EQ(plan.slot[row], plan.last_slot[at]);
      EXPECT_TRUE(row >= static_cast<size_t>(plan.start[group_of(plan, s)]));
      EXPECT_TRUE(row < static_cast<size_t>(plan.start[group_of(plan, s) + 1]));
      const auto next = static_cast<size_t>(plan.position[row]) + 1;
      EXPECT_LT(next, s.request.prompt.size());
      outcome.token.push_back(s.request.prompt[next]);
      outcome.logprob.push_back(-2);
    }
    EXPECT_EQ(plan.last.size(), outcome.token.size());
    return outcome;
  }

 private:
  /// identity, position, depth (or recursion of a key; 0: outside)
  using Tag = std::tuple<uint64_t, int32_t, int32_t>;

  double uniform(uint64_t stream, uint64_t counter) const { return philox(seed_, stream, counter).v[0] / 4294967296.0; }
  /// Identifies the token at `position` with its predecessors and the routing.
  uint64_t identity(const Request& request, int32_t position) const {
    std::vector<uint64_t>& known = identities_[request.id];
    const int32_t prompt = static_cast<int32_t>(request.prompt.size());
    for (int32_t p = static_cast<int32_t>(known.size()); p <= position; ++p) {
      const bool by_score = config_.rules.router == RouterType::expert_choice;
      const uint64_t before = p > 0 ? known.back()
                                    : static_cast<uint64_t>(request.max_recursions) +
                                          (by_score ? static_cast<uint64_t>(1000 * request.score_threshold) : 0);
      const int32_t token = p < prompt ? request.prompt[static_cast<size_t>(p)] : this->token(request, p - prompt);
      const Philox4 random = philox(seed_ + 1, before, static_cast<uint64_t>(token));
      known.push_back(uint64_t{random.v[0]} << 32 | random.v[1]);
    }
    return known[static_cast<size_t>(position)];
  }

  void copy_blocks(const StagePlan& plan) {
    for (const auto& [from, to] : plan.copies) {
      EXPECT_GE(std::min(from, to), config_.scratch_blocks);
      EXPECT_LT(std::max(from, to), config_.blocks);
      for (int32_t i = 0; i < slots_per_block(); ++i)
        keys_[to * slots_per_block() + i] = keys_[from * slots_per_block() + i];
    }
  }
  int32_t slots_per_block() const {
    return config_.block_stride > 0 ? config_.block_stride * config_.block_size
                                    : config_.outside_block_stride * config_.outside_block_size;
  }

  int32_t chosen(const Request& request, int32_t position) const {
    return 1 + static_cast<int32_t>(random(request, position, 10) * config_.rules.num_recursions);
  }

  static size_t group_of(const StagePlan& plan, const Sequence& s) {
    return static_cast<size_t>(std::find(plan.groups.begin(), plan.groups.end(), &s) - plan.groups.begin());
  }

  template <class Body>
  void for_rows(const StagePlan& plan, const Body& body) const {
    for (size_t g = 0; g < plan.groups.size(); ++g)
      for (int32_t i = plan.start[g]; i < plan.start[g + 1]; ++i) body(*plan.groups[g], static_cast<size_t>(i));
  }

  StageOutcome next_recursion(const StagePlan& plan) const {
    StageOutcome outcome;
    for_rows(plan, [&](const Sequence& s, size_t i) {
      const int32_t next = s.recursion + 1;
      outcome.score.push_back(random(s.request, plan.position[i], next));
      outcome.gate.push_back(random(s.request, plan.position[i], 21));
      outcome.depth.push_back(chosen(s.request, plan.position[i]));
    });
    return outcome;
  }

  void check_rows(const StagePlan& plan) const {
    ASSERT_EQ(plan.start.size(), plan.groups.size() + 1);
    ASSERT_EQ(plan.start.back(), plan.rows());
    const std::set<int32_t> slots(plan.slot.begin(), plan.slot.end());
    EXPECT_EQ(static_cast<int32_t>(slots.size()), plan.rows());
    EXPECT_GE(*slots.begin(), 0);
    EXPECT_LT(*slots.rbegin(), config_.max_sequences + config_.prefill_chunk);
    EXPECT_EQ(std::set<Sequence*>(plan.groups.begin(), plan.groups.end()).size(), plan.groups.size());
  }

  /// Writes the keys of the rows at recursion r (0: outside the block), then reads what each of them sees.
  void check_keys(const StagePlan& plan, int32_t r) {
    const size_t first = r == 0 ? 0 : static_cast<size_t>(plan.recursion_start[static_cast<size_t>(r) - 1]);
    const size_t end = r == 0 ? plan.slot.size() : static_cast<size_t>(plan.recursion_start[static_cast<size_t>(r)]);
    if (!plan.queries_only) {
      const std::set<int32_t> distinct(plan.cache_slot.begin(), plan.cache_slot.end());
      EXPECT_EQ(static_cast<int32_t>(distinct.size()), plan.rows());
    }
    const bool given = r > 1 && config_.rules.kv_cache == KvCachePolicy::shared;
    for_rows(plan, [&](const Sequence& s, size_t i) {
      if (i < first || i >= end) return;
      if (r > 0) {
        EXPECT_EQ(s.recursion, r);
      }
      if (plan.queries_only) return;
      const bool written =
          scratch_or_new(plan.cache_slot[i], {identity(s.request, plan.position[i]), plan.position[i], r}, given);
      EXPECT_TRUE(written);
    });
    for (size_t g = 0; g < plan.groups.size(); ++g)
      for (int32_t i = plan.start[g]; i < plan.start[g + 1]; ++i)
        if (static_cast<size_t>(i) >= first && static_cast<size_t>(i) < end) {
          EXPECT_EQ(seen(plan, g, static_cast<size_t>(i)), expected(plan, g, static_cast<size_t>(i), r));
        }
  }

  bool scratch_or_new(int32_t slot, const Tag& tag, bool given) {
    const bool scratch = slot / slots_per_block() < config_.scratch_blocks;
    if (scratch != given || slot < 0 || slot / slots_per_block() >= config_.blocks) return false;
    keys_[slot] = tag;
    return true;
  }

  std::vector<Tag> seen(const StagePlan& plan, size_t g, size_t i) {
    std::vector<Tag> tags;
    for (int32_t j = 0; j < plan.visible[i]; ++j) {
      EXPECT_LT(j / plan.block_size, plan.blocks_per_group);
      EXPECT_LT(j / plan.block_size, plan.blocks_of_group(g));
      tags.push_back(keys_[plan.table[g][j / plan.block_size] * plan.block_size + j % plan.block_size]);
    }
    EXPECT_LE(plan.visible[i], plan.max_keys);
    return tags;
  }

  std::vector<Tag> expected(const StagePlan& plan, size_t g, size_t i, int32_t r) const {
    const Request& request = plan.groups[g]->request;
    std::vector<Tag> tags;
    for (int32_t p = 0; p <= plan.position[i]; ++p) {
      const int32_t ran = passes(request, p);
      if (r == 0) {
        tags.emplace_back(identity(request, p), p, 0);
      } else if (config_.rules.kv_cache == KvCachePolicy::recursion_wise) {
        if (ran >= r) tags.emplace_back(identity(request, p), p, r);
      } else if (ran >= 1) {
        const bool own = config_.rules.kv_cache == KvCachePolicy::hybrid && ran >= r;
        tags.emplace_back(identity(request, p), p, own ? r : 1);
      }
    }
    return tags;
  }

  SchedulerConfig config_;
  uint64_t seed_;
  std::map<int32_t, Tag> keys_, stream_;
  mutable std::map<uint64_t, std::vector<uint64_t>> identities_;  ///< of every request's tokens
};

}  // namespace mor::test
