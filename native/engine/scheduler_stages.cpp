// Scheduler: the plans and commits of the three stages of a step.
#include <algorithm>
#include <utility>

#include "engine/scheduler.h"

namespace mor {

void StagePlan::clear() {
  groups.clear();
  start.assign(1, 0);
  max_rows = max_keys = 0;
  for (std::vector<int32_t>* v :
       {&slot, &position, &visible, &cache_slot, &token, &recursion_start, &exits, &last, &last_slot})
    v->clear();
  table.clear();
  copies.clear();
  gate.clear();
  sampled.clear();
  scored.clear();
  done.clear();
  queries_only = false;
}

/// Whether the boundary stages are to run. Rows that wait for them cost throughput only if the block runs short of
/// rows. So the block makes another pass without them as long as that pass costs no more per row than the passes since
/// the boundary stages ran last have cost on average, including the boundary stages. Exit ends a step, so that tokens
/// are reported at once, and entry begins the next step.
bool Scheduler::boundary_due() {
  if (!config_.rules.block_recurs) return true;
  const bool any =
      std::any_of(running_.begin(), running_.end(), [](const Sequence* s) { return s->phase != Phase::block; }) ||
      may_admit();
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

/// Does what would otherwise be done after the stage in flight. No later plan differs by it.
void Scheduler::prepare() {
  if (exit_uncounted_) count_exited();
  for (Sequence* s : ready_)
    if (!s->has_cache_slots) assign_cache_slots(*s);
  if (!waiting_.empty()) match_prefix(**waiting_.begin());
}

const StagePlan* Scheduler::plan_exit() {
  boundary_ = boundary_due();
  if (!boundary_) return nullptr;
  plan_.clear();
  for (Sequence* s : running_) {
    if (s->phase != Phase::exiting) continue;
    add_group(*s, s->keys[0].blocks);
    for (const InFlight& row : s->rows) add_row(row, row.position + 1, row.outside_slot);
    if (!s->reaches_end()) continue;
    if (s->request.max_tokens == 0) {
      plan_.done.push_back(s);
      continue;
    }
    plan_.last.push_back(plan_.rows() - 1);
    plan_.last_slot.push_back(s->rows.back().slot);
    plan_.sampled.push_back(s);
  }
  add_scored_rows();
  finish_plan(true, config_.outside_block_size);
  exit_uncounted_ = !plan_.groups.empty();
  return exit_uncounted_ ? &plan_ : nullptr;
}

void Scheduler::add_scored_rows() {
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    Sequence* const s = plan_.groups[g];
    for (size_t i = 0; i < s->rows.size(); ++i) {
      const InFlight& row = s->rows[i];
      if (row.position < s->scored || row.position >= s->request.scored_rows()) continue;
      plan_.last.push_back(plan_.start[g] + static_cast<int32_t>(i));
      plan_.last_slot.push_back(row.slot);
      plan_.scored.push_back(s);
    }
  }
}

/// Counts the tokens of the exit stage, which have been through the model whatever is sampled, and frees their rows.
void Scheduler::count_exited() {
  exit_uncounted_ = false;
  for (Sequence* s : plan_.groups) {
    for (const InFlight& row : s->rows) {
      const int32_t depth = config_.rules.depth(row.depth);
      s->depths.push_back(depth);
      if (row.position < s->counted) continue;
      s->counted = row.position + 1;
      ++stats_.tokens_run;
      if (row.position < static_cast<int32_t>(s->request.prompt.size())) ++stats_.prompt_tokens;
      if (depth > 0) ++stats_.depth_histogram[static_cast<size_t>(depth) - 1];
    }
    give_back_rows(*s);
    remember(*s);
    s->phase = Phase::entering;
  }
}

namespace {

/// The most likely tokens that Ops::sample listed for row `i`.
std::vector<TokenLogprob> listed(const StageOutcome& outcome, size_t i, int32_t wanted) {
  if (wanted == 0) return {};
  const auto begin = outcome.top_logprob.begin() + static_cast<int64_t>(i) * kMostTopLogprobs;
  return {begin, std::find_if(begin, begin + wanted, [](const TokenLogprob& t) { return t.token < 0; })};
}

double seconds_since(Sequence::Clock::time_point begin) {
  return std::chrono::duration<double>(Sequence::Clock::now() - begin).count();
}

}  // namespace

void Scheduler::commit_exit(const StageOutcome& outcome, std::vector<RequestEvent>& events) {
  if (exit_uncounted_) count_exited();
  const auto fail = [&](Sequence& s, const std::string& which) {
    finish(s,
           {.reason = FinishReason::error,
            .code = ErrorCode::NON_FINITE,
            .message = concat("the logits of ", which,
                              " are not finite; the model's weights or activations have overflowed or are NaN")},
           events);
  };
  for (size_t i = 0; i < plan_.scored.size(); ++i) {
    Sequence* const s = plan_.scored[i];
    if (s == nullptr) continue;
    const size_t at = plan_.sampled.size() + i;
    const int32_t position = s->scored++;
    if (outcome.token[at] >= 0) {
      events.push_back({.kind = RequestEvent::Kind::prompt,
                        .request = s->request.id,
                        .token = outcome.token[at],
                        .depth = s->depths[static_cast<size_t>(position)],
                        .logprob = outcome.logprob[at],
                        .top_logprobs = listed(outcome, at, s->request.prompt_logprobs)});
      continue;
    }
    fail(*s, concat("token ", position + 1, " of the prompt"));
    for (std::vector<Sequence*>* sequences : {&plan_.sampled, &plan_.scored, &plan_.done})
      std::replace(sequences->begin(), sequences->end(), s, static_cast<Sequence*>(nullptr));
  }
  for (Sequence* s : plan_.done)
    if (s != nullptr) finish(*s, {.reason = FinishReason::length}, events);
  for (size_t next = 0; next < plan_.sampled.size(); ++next) {
    Sequence* const s = plan_.sampled[next];
    if (s == nullptr) continue;
    const int32_t token = outcome.token[next];
    if (token < 0) {
      fail(*s, concat("token ", s->generated()));
      continue;
    }
    RequestEvent drawn{.request = s->request.id,
                       .token = token,
                       .depth = s->depths.back(),
                       .logprob = s->request.logprobs ? outcome.logprob[next] : 0,
                       .top_logprobs = listed(outcome, next, s->request.top_logprobs),
                       .prefill_seconds = s->generated() == 0 ? seconds_since(*s->began) : -1,
                       .reason = FinishReason::stop};
    const std::vector<int32_t>& stop = s->request.stop;
    if (std::find(stop.begin(), stop.end(), token) != stop.end()) {
      finish(*s, std::move(drawn), events);
    } else {
      events.push_back(std::move(drawn));
      s->tokens.push_back(token);
      s->logit_edits.add(token);
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
  // Sequences enter in order; an admitted one takes its place in the order. Preemption begins at the end of the order,
  // so it never takes a sequence that is in this plan already.
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
  finish_plan(true, config_.outside_block_size);
  MOR_CHECK(plan_.copies.empty() || !plan_.groups.empty(), INTERNAL, "a sequence was admitted and did not enter");
  return plan_.groups.empty() ? nullptr : &plan_;
}

/// Plans the next tokens of `s`: the generated one, or as many of the prompt as `prefill_chunk` allows. They take
/// blocks for every recursion that they may reach, so that no later stage lacks any; `advance` gives back those not
/// needed.
void Scheduler::enter(Sequence& s) {
  const bool decoding = s.generated() > 0 && s.length() - s.entered == 1;
  const int32_t n = decoding ? 1 : std::min(s.length() - s.entered, config_.prefill_chunk - prompt_rows_);
  if (n <= 0 || !make_room(s, n)) return;
  for (size_t list = 0; list < s.keys.size(); ++list) {
    if (!uses(s.request, list)) continue;
    KeyList& keys = s.keys[list];
    while (static_cast<int64_t>(keys.blocks.size()) * block_size(list) < keys.count + n) {
      keys.blocks.push_back(0);  // before a block is taken, since it may throw
      keys.blocks.back() = take_block() * block_stride(list);
    }
  }
  if (!decoding) prompt_rows_ += s.prompt_rows = n;
  s.recursion = 0;
  add_group(s, s.keys[0].blocks);
  for (int32_t i = 0; i < n; ++i) {
    s.active.push_back(i);
    InFlight& row = s.rows.emplace_back();
    row.position = s.entered++;
    row.slot = free_slots_.back();
    free_slots_.pop_back();
    row.outside_slot = cache_slot(s, 0, row.position);
    plan_.token.push_back(s.tokens[static_cast<size_t>(row.position)]);
    add_row(row, row.position + 1, row.outside_slot);
  }
  s.keys[0].count = s.entered;
}

void Scheduler::commit_rows(const StageOutcome& outcome) {
  for (size_t g = 0; g < plan_.groups.size(); ++g)
    advance(*plan_.groups[g], outcome, static_cast<size_t>(plan_.start[g]));
}

const StagePlan* Scheduler::plan_block() {
  plan_.clear();
  for (std::vector<Sequence*>& sequences : chosen_) sequences.clear();
  // Of the decoding sequences, those that have been ready for longest run. Prompts run in any case: `prefill_chunk`
  // bounds their rows.
  size_t kept = 0;
  int32_t decoding = 0;
  for (Sequence* s : ready_)
    if (s->prompt_rows > 0 || decoding++ < config_.max_batch_size) {
      chosen_[static_cast<size_t>(s->recursion)].push_back(s);
    } else {
      ready_[kept++] = s;
    }
  ready_.resize(kept);
  plan_.recursion_start.push_back(0);
  plan_.queries_only = true;
  for (size_t r = 1; r < chosen_.size(); ++r) {
    if (!chosen_[r].empty() && !config_.rules.queries_only(static_cast<int32_t>(r))) plan_.queries_only = false;
    for (Sequence* s : chosen_[r]) add_block_group(*s);
    plan_.recursion_start.push_back(plan_.rows());
  }
  finish_plan(false, config_.rules.sees_several_lists() ? 1 : config_.block_size);
  if (plan_.groups.empty()) return nullptr;
  ++passes_;
  rows_passed_ += plan_.rows();
  return &plan_;
}

/// Finds which of the active rows of `s`, rows first, first + 1, … of the plan, run the next recursion. If none does,
/// all rows of `s` leave the block.
void Scheduler::advance(Sequence& s, const StageOutcome& outcome, size_t first) {
  const RoutingRules& rules = config_.rules;
  const int32_t next = s.recursion + 1;
  const bool asked = rules.asks_router(next);
  size_t kept = 0;
  for (size_t i = 0; i < s.active.size(); ++i) {
    InFlight& row = s.rows[static_cast<size_t>(s.active[i])];
    row.depth = s.recursion;
    if (next == 1) {
      const bool chosen = rules.router == RouterType::token_choice;
      row.last_recursion = rules.last_recursion(s.request.max_recursions, chosen ? outcome.depth[first + i] : 0);
      if (chosen) row.gate = outcome.gate[first + i];
    }
    const double score = asked ? outcome.score[first + i] : 0;
    if (rules.goes_on(next, row.last_recursion, score, s.request.score_threshold)) s.active[kept++] = s.active[i];
  }
  s.active.resize(kept);
  if (kept > 0) {
    s.phase = Phase::block;
    s.recursion = next;
    s.has_cache_slots = false;
    ready_.push_back(&s);
    return;
  }
  s.phase = Phase::exiting;
  for (size_t list = 1; list < s.keys.size(); ++list) give_back_blocks(s.keys[list], list, s.keys[list].count);
}

void Scheduler::add_group(Sequence& s, const std::vector<int32_t>& table) {
  plan_.groups.push_back(&s);
  plan_.start.push_back(plan_.rows());
  plan_.table.push_back(table.data());
}

void Scheduler::add_row(const InFlight& row, int32_t visible, int32_t cache_slot) {
  plan_.slot.push_back(row.slot);
  plan_.position.push_back(row.position);
  plan_.visible.push_back(visible);
  plan_.cache_slot.push_back(cache_slot);
  ++plan_.start.back();
}

/// The slot of key `index`; 0 for a list that the request does not use.
int32_t Scheduler::cache_slot(const Sequence& s, size_t list, int32_t index) const {
  if (!uses(s.request, list)) return 0;
  const int32_t size = block_size(list);
  return s.keys[list].blocks[static_cast<size_t>(index / size)] * size + index % size;
}

/// Finds where the keys of the active rows are written, and how many keys each row sees.
void Scheduler::assign_cache_slots(Sequence& s) {
  const size_t r = static_cast<size_t>(s.recursion);
  KeyList& own = s.keys[r];
  s.has_cache_slots = true;
  if (config_.rules.queries_only(s.recursion)) {
    for (const int32_t index : s.active) {
      InFlight& row = s.rows[static_cast<size_t>(index)];
      row.visible = row.rank + 1;
      row.cache_slot = -1;
    }
    return;
  }
  const bool several_lists = config_.rules.sees_several_lists();
  if (several_lists) {
    // Of a token that does not run this recursion, a query sees the key of recursion 1.
    const std::vector<int32_t>& first = s.keys[1].visible_slots;
    const size_t known = own.visible_slots.size();
    const size_t seen = r == 1 ? known + s.active.size() : first.size();
    own.visible_slots.resize(seen);
    if (r > 1) std::copy(first.begin() + static_cast<int64_t>(known), first.end(), &own.visible_slots[known]);
  }
  int32_t key = own.count;  // raised when the rows run, so that admission does not depend on `prepare`
  for (const int32_t index : s.active) {
    InFlight& row = s.rows[static_cast<size_t>(index)];
    if (r == 1) row.rank = key;
    row.cache_slot = cache_slot(s, r, key++);
    row.visible = config_.rules.sees_tokens_that_left() ? row.rank + 1 : key;
    if (several_lists) own.visible_slots[static_cast<size_t>(row.rank)] = row.cache_slot;
  }
}

void Scheduler::add_block_group(Sequence& s) {
  if (!s.has_cache_slots) assign_cache_slots(s);
  const RoutingRules& rules = config_.rules;
  KeyList& keys = s.keys[static_cast<size_t>(rules.key_seen(s.recursion, s.recursion))];
  if (!rules.queries_only(s.recursion)) keys.count += static_cast<int32_t>(s.active.size());
  add_group(s, rules.sees_several_lists() ? keys.visible_slots : keys.blocks);
  for (const int32_t index : s.active) {
    const InFlight& row = s.rows[static_cast<size_t>(index)];
    if (rules.router == RouterType::token_choice && row.last_recursion == s.recursion) {
      plan_.exits.push_back(plan_.rows());
      plan_.gate.push_back(row.gate);
    }
    add_row(row, row.visible, row.cache_slot < 0 ? scratch_slot(plan_.rows()) : row.cache_slot);
  }
}

/// Where row i writes its key, if it projects queries only but stands in a pass in which others write theirs.
int32_t Scheduler::scratch_slot(int32_t i) const {
  return i / config_.block_size * config_.block_stride * config_.block_size + i % config_.block_size;
}

/// Fills in the sizes of the plan. block_size: tokens in a block of the groups' tables.
void Scheduler::finish_plan(bool outside, int32_t block_size) {
  plan_.block_size = block_size;
  for (size_t g = 0; g < plan_.groups.size(); ++g) {
    plan_.max_rows = std::max(plan_.max_rows, plan_.start[g + 1] - plan_.start[g]);
    plan_.max_keys = std::max(plan_.max_keys, plan_.keys_of_group(g));
  }
  plan_.blocks_per_group = static_cast<int32_t>(blocks_of(plan_.max_keys, block_size));
  if (outside && !config_.layers_outside_block) {
    plan_.blocks_per_group = 0;
    plan_.table.clear();
  }
}

}  // namespace mor
