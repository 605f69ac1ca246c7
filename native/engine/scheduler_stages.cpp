// Scheduler: the three stages of a step, planned and committed. Must not know of models or devices.
#include <algorithm>

#include "engine/scheduler.h"

namespace mor {

void StagePlan::clear() {
  groups.clear();
  start.assign(1, 0);
  max_rows = max_keys = 0;
  for (std::vector<int32_t>* v :
       {&slot, &position, &visible, &cache_slot, &token, &recursion_start, &exits, &last, &last_slot})
    v->clear();
  copies.clear();
  gate.clear();
  sampled.clear();
  queries_only = false;
}

/// Waiting rows cost throughput only when the block runs short of them. So another pass of the block without the
/// boundary stages is made as long as it costs no more per row than the passes since they ran last, with them, did on
/// average. Exit comes at the end of a step, so that tokens are known at once, and entry begins the next.
bool Scheduler::boundary_due() {
  if (config_.recursions == 0) return true;
  const bool any = may_admit() || std::any_of(running_.begin(), running_.end(),
                                              [](const Sequence* s) { return s->phase != Phase::block; });
  if (!any) return false;
  int32_t decoding = 0, prompt = 0;
  for (const Sequence* s : ready_)
    if (s->prompt_rows == 0) {
      ++decoding;
    } else {
      prompt += static_cast<int32_t>(s->active.size());
    }
  const double rows = std::min(decoding, config_.max_batch_size) + prompt;
  const double cost = config_.boundary_cost + passes_ * config_.block_cost;
  return rows == 0 || config_.block_cost * rows_passed_ > cost * rows;
}

const StagePlan* Scheduler::plan_exit() {
  boundary_ = boundary_due();
  if (!boundary_) return nullptr;
  plan_.clear();
  for (Sequence* s : running_) {
    if (s->phase != Phase::exiting) continue;
    add_group(*s);
    for (const InFlight& row : s->rows) add_row(row, row.position + 1, cache_slot(*s, 0, row.position));
    if (!s->reaches_end()) continue;
    plan_.last.push_back(plan_.rows() - 1);
    plan_.last_slot.push_back(s->rows.back().slot);
    plan_.sampled.push_back(s);
  }
  finish_plan(true);
  return plan_.groups.empty() ? nullptr : &plan_;
}

void Scheduler::commit_exit(const StageOutcome& outcome, std::vector<EngineEvent>& events) {
  size_t next = 0;
  for (Sequence* s : plan_.groups) {
    for (const InFlight& row : s->rows) {
      if (row.position < s->counted) continue;
      s->counted = row.position + 1;
      ++stats_.tokens_run;
      if (row.position < static_cast<int32_t>(s->request.prompt.size())) ++stats_.prompt_tokens;
      if (row.depth > 0) ++stats_.depth_histogram[static_cast<size_t>(row.depth) - 1];
    }
    for (const InFlight& row : s->rows) s->depths.push_back(row.depth);
    const int32_t depth = s->rows.back().depth;
    give_back_rows(*s);
    remember(*s);
    s->phase = Phase::entering;
    if (!s->reaches_end()) continue;

    const int32_t token = outcome.token[next];
    const float logprob = s->request.logprobs ? outcome.logprob[next] : 0;
    ++next;
    const std::vector<int32_t>& stop = s->request.stop;
    if (token < 0) {
      finish(*s,
             {.reason = FinishReason::error,
              .code = ErrorCode::NON_FINITE,
              .message = concat("no logit of token ", s->generated(),
                                " is finite; the model's weights or activations have overflowed")},
             events);
    } else if (std::find(stop.begin(), stop.end(), token) != stop.end()) {
      finish(*s, {.reason = FinishReason::stop}, events);
    } else {
      events.push_back({.request = s->request.id, .token = token, .depth = depth, .logprob = logprob});
      s->tokens.push_back(token);
      ++stats_.tokens_generated;
      if (s->generated() == s->request.max_tokens) finish(*s, {.reason = FinishReason::length}, events);
    }
  }
}

const StagePlan* Scheduler::plan_entry() {
  if (!boundary_ && !ready_.empty()) return nullptr;
  passes_ = rows_passed_ = 0;
  plan_.clear();
  const int64_t preemptions = stats_.preemptions;
  // In order: who is admitted takes his place among the running. Room is made by taking sequences away from the end,
  // never one that this plan holds already.
  bool admitting = true;
  for (size_t i = 0;; ++i) {
    const bool turn_of_waiting =
        !waiting_.empty() && (i == running_.size() || Before()(*waiting_.begin(), running_[i]));
    if (turn_of_waiting && admitting) {
      admitting = stats_.preemptions == preemptions && may_admit();
      if (admitting) admit();
    }
    if (i == running_.size()) break;
    if (running_[i]->phase == Phase::entering) enter(*running_[i]);
  }
  finish_plan(true);
  MOR_CHECK(plan_.copies.empty() || !plan_.groups.empty(), INTERNAL, "a sequence was admitted and did not enter");
  return plan_.groups.empty() ? nullptr : &plan_;
}

/// Plans the next tokens of `s`: one that was generated, or a chunk of the prompt within the budget. Their blocks are
/// taken now for every recursion that they may reach, so that no stage in between runs out; `advance` gives the others
/// back.
void Scheduler::enter(Sequence& s) {
  const bool decoding = s.generated() > 0 && s.length() - s.entered == 1;
  const int32_t n = decoding ? 1 : std::min(s.length() - s.entered, config_.prefill_chunk - prompt_rows_);
  if (n <= 0 || !make_room(s, n)) return;
  for (size_t list = 0; list < s.keys.size(); ++list) {
    if (!uses(s.request, list)) continue;
    KeyList& keys = s.keys[list];
    while (static_cast<int64_t>(keys.blocks.size()) * block_size(list) < keys.count + n)
      keys.blocks.push_back(take_block() * block_stride(list));
  }
  if (!decoding) prompt_rows_ += s.prompt_rows = n;
  s.recursion = 0;
  add_group(s);
  for (int32_t i = 0; i < n; ++i) {
    InFlight row;
    row.position = s.entered++;
    row.slot = free_slots_.back();
    free_slots_.pop_back();
    s.active.push_back(i);
    s.rows.push_back(row);
    plan_.token.push_back(s.tokens[static_cast<size_t>(row.position)]);
    add_row(row, row.position + 1, cache_slot(s, 0, row.position));
  }
  s.keys[0].count = s.entered;
}

void Scheduler::commit_entry(const StageOutcome& outcome) {
  for (size_t g = 0; g < plan_.groups.size(); ++g)
    advance(*plan_.groups[g], outcome, static_cast<size_t>(plan_.start[g]));
}

const StagePlan* Scheduler::plan_block() {
  plan_.clear();
  // First come, first served; prompts come on top, since the prompt budget bounds them.
  chosen_.clear();
  size_t kept = 0;
  int32_t decoding = 0;
  for (Sequence* s : ready_)
    if (s->prompt_rows > 0 || decoding++ < config_.max_batch_size) {
      chosen_.push_back(s);
    } else {
      ready_[kept++] = s;
    }
  ready_.resize(kept);
  plan_.recursion_start.push_back(0);
  for (int32_t r = 1; r <= config_.recursions; ++r) {
    for (Sequence* s : chosen_)
      if (s->recursion == r) add_block_group(*s);
    plan_.recursion_start.push_back(plan_.rows());
  }
  plan_.queries_only = config_.key_policy == KeyPolicy::shared && plan_.recursion_start[1] == 0;
  finish_plan(false);
  if (plan_.groups.empty()) return nullptr;
  ++passes_;
  rows_passed_ += plan_.rows();
  return &plan_;
}

void Scheduler::commit_block(const StageOutcome& outcome) {
  for (size_t g = 0; g < plan_.groups.size(); ++g)
    advance(*plan_.groups[g], outcome, static_cast<size_t>(plan_.start[g]));
}

/// Rows first, first + 1, … of the plan are the active ones of `s`: some run the next recursion, and when none is left,
/// all leave the block.
void Scheduler::advance(Sequence& s, const StageOutcome& outcome, size_t first) {
  const int32_t next = s.recursion + 1;
  size_t kept = 0;
  for (size_t i = 0; i < s.active.size(); ++i) {
    InFlight& row = s.rows[static_cast<size_t>(s.active[i])];
    row.depth = s.recursion;
    bool goes_on = next <= s.request.max_recursions;
    if (config_.depth_source == DepthSource::chosen_at_entry) {
      if (next == 1) {
        row.target = std::min(outcome.depth[first + i], s.request.max_recursions);
        row.gate = outcome.gate[first + i];
      }
      goes_on = next <= row.target;
    } else if (config_.depth_source == DepthSource::score_per_recursion && goes_on) {
      goes_on =
          config_.runs_all[static_cast<size_t>(s.recursion)] || outcome.score[first + i] >= s.request.score_threshold;
    }
    if (goes_on) s.active[kept++] = s.active[i];
  }
  s.active.resize(kept);
  if (kept > 0) {
    s.phase = Phase::block;
    s.recursion = next;
    ready_.push_back(&s);
    return;
  }
  s.phase = Phase::exiting;
  for (size_t list = 1; list < s.keys.size(); ++list)
    give_back_blocks(s.keys[list], list, static_cast<size_t>(blocks_of(s.keys[list].count, block_size(list))));
}

void Scheduler::add_group(Sequence& s) {
  plan_.groups.push_back(&s);
  plan_.start.push_back(plan_.rows());
}

void Scheduler::add_row(const InFlight& row, int32_t visible, int32_t cache_slot) {
  plan_.slot.push_back(row.slot);
  plan_.position.push_back(row.position);
  plan_.visible.push_back(visible);
  plan_.cache_slot.push_back(cache_slot);
  ++plan_.start.back();
}

/// The slot of key `index`; 0 for a list that nobody uses.
int32_t Scheduler::cache_slot(const Sequence& s, size_t list, int32_t index) const {
  if (!uses(s.request, list)) return 0;
  const int32_t size = block_size(list);
  return s.keys[list].blocks[static_cast<size_t>(index / size)] * size + index % size;
}

/// The active rows of `s`, with a place for their keys.
void Scheduler::add_block_group(Sequence& s) {
  const size_t r = static_cast<size_t>(s.recursion);
  KeyList& own = s.keys[r];
  const bool hybrid = config_.key_policy == KeyPolicy::hybrid;
  // Tokens that ran recursion 1 but not this one are seen here with what they left at the recursion before.
  if (hybrid && r > 1) {
    const std::vector<int32_t>& before = s.keys[r - 1].visible_slots;
    own.visible_slots.insert(own.visible_slots.end(), before.begin() + static_cast<int64_t>(own.visible_slots.size()),
                             before.end());
  }
  add_group(s);
  for (const int32_t index : s.active) {
    InFlight& row = s.rows[static_cast<size_t>(index)];
    if (config_.depth_source == DepthSource::chosen_at_entry && row.target == s.recursion) {
      plan_.exits.push_back(plan_.rows());
      plan_.gate.push_back(row.gate);
    }
    if (r == 1) row.rank = own.count;
    if (config_.key_policy == KeyPolicy::shared && r > 1) {
      add_row(row, row.rank + 1, scratch_slot(plan_.rows()));
      continue;
    }
    const int32_t slot = cache_slot(s, r, own.count++);
    add_row(row, hybrid ? row.rank + 1 : own.count, slot);
    if (!hybrid) continue;
    if (r == 1) {
      own.visible_slots.push_back(slot);
    } else {
      own.visible_slots[static_cast<size_t>(row.rank)] = slot;
    }
  }
}

/// Where row i of a pass leaves keys that nobody wants: rows of later recursions under the shared policy that stand
/// beside rows of the first.
int32_t Scheduler::scratch_slot(int32_t i) const {
  return i / config_.block_size * config_.block_stride * config_.block_size + i % config_.block_size;
}

/// Sizes, and the block tables side by side.
void Scheduler::finish_plan(bool outside) {
  const bool by_slot = !outside && config_.key_policy == KeyPolicy::hybrid;
  plan_.block_size = by_slot ? 1 : block_size(outside ? 0 : 1);
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    plan_.max_rows = std::max(plan_.max_rows, plan_.start[g + 1] - plan_.start[g]);
    plan_.max_keys = std::max(plan_.max_keys, plan_.visible[static_cast<size_t>(plan_.start[g + 1]) - 1]);
  }
  plan_.blocks_per_group = 0;
  if (outside && !config_.layers_outside_block) {
    plan_.block_table.clear();
    return;
  }
  plan_.blocks_per_group = static_cast<int32_t>(blocks_of(plan_.max_keys, plan_.block_size));
  plan_.block_table.resize(plan_.groups.size() * static_cast<size_t>(plan_.blocks_per_group));
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    const Sequence& s = *plan_.groups[g];
    const int32_t list = outside ? 0 : config_.key_policy == KeyPolicy::shared ? 1 : s.recursion;
    const KeyList& keys = s.keys[static_cast<size_t>(list)];
    const std::vector<int32_t>& table = by_slot ? keys.visible_slots : keys.blocks;
    const int64_t n = std::min<int64_t>(plan_.blocks_per_group, static_cast<int64_t>(table.size()));
    const auto row = plan_.block_table.begin() + static_cast<int64_t>(g) * plan_.blocks_per_group;
    std::fill(std::copy_n(table.begin(), n, row), row + plan_.blocks_per_group, 0);
  }
}

}  // namespace mor
