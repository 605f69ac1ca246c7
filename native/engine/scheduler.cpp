// Scheduler: requests in and out, memory, preemption. Must not know of models or devices.
#include "engine/scheduler.h"

#include <algorithm>

namespace mor {

namespace {

template <class Container>
void remove(Container& container, const Sequence* s) {
  container.erase(std::remove(container.begin(), container.end(), s), container.end());
}

}  // namespace

Scheduler::Scheduler(SchedulerConfig config)
    : config_(std::move(config)), pool_(config_.scratch_blocks, config_.blocks - config_.scratch_blocks) {
  for (int32_t slot = stream_rows(); slot-- > 0;) free_slots_.push_back(slot);
  stats_.depth_histogram.resize(static_cast<size_t>(config_.recursions));
}

void Scheduler::submit(Request request) {
  MOR_CHECK(sequences_.count(request.id) == 0, INVALID_ARGUMENT, "request ", request.id, " is under way already");
  // The last token is only reported: nothing comes after it.
  const int64_t tokens = static_cast<int64_t>(request.prompt.size()) + request.max_tokens - 1;
  const int64_t needed = blocks_for(request, tokens);
  MOR_CHECK(needed <= pool_.total(), OUT_OF_MEMORY, "the request may need ", needed, " KV blocks (", tokens,
            " tokens), but the cache has ", pool_.total(), "; lower maxTokens or raise kvCacheBytes");
  const uint64_t id = request.id;
  auto sequence = std::make_unique<Sequence>(std::move(request), config_.recursions);
  waiting_.push_back(sequence.get());
  sequences_.emplace(id, std::move(sequence));
}

void Scheduler::abort(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  found->second->aborted = true;
  any_aborted_ = true;
}

void Scheduler::begin_step(std::vector<EngineEvent>& events) {
  if (!any_aborted_) return;
  any_aborted_ = false;
  std::vector<Sequence*> aborted;
  for (const auto& [id, s] : sequences_)
    if (s->aborted) aborted.push_back(s.get());
  for (Sequence* s : aborted) finish(*s, {.reason = FinishReason::abort}, events);
}

void Scheduler::fail_running(ErrorCode code, const std::string& message, std::vector<EngineEvent>& events) {
  while (!running_.empty())
    finish(*running_.back(), {.reason = FinishReason::error, .code = code, .message = message}, events);
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.blocks_total = pool_.total();
  stats.blocks_used = pool_.used();
  for (const Sequence* s : running_) stats.cached_tokens += s->entered;
  return stats;
}

bool Scheduler::uses(const Request& request, size_t list) const {
  if (list == 0) return config_.layers_outside_block;
  const int32_t r = static_cast<int32_t>(list);
  return config_.key_policy == KeyPolicy::shared ? r == 1 : r <= request.max_recursions;
}

/// Where every token runs every recursion that the request allows.
int64_t Scheduler::blocks_for(const Request& request, int64_t tokens) const {
  int64_t blocks = 0;
  for (size_t list = 0; list <= static_cast<size_t>(config_.recursions); ++list)
    if (uses(request, list)) blocks += blocks_of(tokens, block_size(list));
  return blocks;
}

/// How many more `rows` further tokens may need, whatever their depths.
int64_t Scheduler::blocks_missing(const Sequence& s, int32_t rows) const {
  int64_t missing = 0;
  for (size_t list = 0; list < s.keys.size(); ++list)
    if (uses(s.request, list))
      missing += std::max<int64_t>(
          0, blocks_of(s.keys[list].count + rows, block_size(list)) - static_cast<int64_t>(s.keys[list].blocks.size()));
  return missing;
}

/// Preempts younger sequences until `rows` more tokens of `s` fit. Where the older ones hold too much, `s` must wait:
/// the oldest never does, so everybody gets through.
bool Scheduler::make_room(const Sequence& s, int32_t rows) {
  const int64_t missing = blocks_missing(s, rows);
  while (missing > pool_.free()) {
    if (running_.back() == &s) return false;
    preempt(*running_.back());
  }
  return true;
}

/// The next request comes in once the cache has room for all that it has by now, at any depth; so prompts are not
/// started to be thrown out again.
bool Scheduler::may_admit() const {
  if (waiting_.empty() || static_cast<int32_t>(running_.size()) >= config_.max_sequences) return false;
  if (prompt_rows_ >= config_.prefill_chunk) return false;
  const Sequence& s = *waiting_.front();
  return running_.empty() || blocks_for(s.request, s.length()) <= pool_.free();
}

/// Recomputation: causal routing gives the same depths and keys again, so only time is lost.
void Scheduler::preempt(Sequence& s) {
  release(s);
  remove(running_, &s);
  waiting_.push_front(&s);
  s.phase = Phase::waiting;
  s.entered = 0;
  ++stats_.preemptions;
}

void Scheduler::give_back_blocks(KeyList& list, size_t index, size_t keep) {
  for (; list.blocks.size() > keep; list.blocks.pop_back()) pool_.give_back(list.blocks.back() / block_stride(index));
}

void Scheduler::give_back_rows(Sequence& s) {
  for (const InFlight& row : s.rows) free_slots_.push_back(row.slot);
  s.rows.clear();
  s.active.clear();
  prompt_rows_ -= s.prompt_rows;
  s.prompt_rows = 0;
}

/// Everything it holds.
void Scheduler::release(Sequence& s) {
  if (s.phase == Phase::block) remove(ready_, &s);
  give_back_rows(s);
  for (size_t list = 0; list < s.keys.size(); ++list) {
    give_back_blocks(s.keys[list], list, 0);
    s.keys[list].count = 0;
    s.keys[list].visible_slots.clear();
  }
}

/// `s` is gone afterwards.
void Scheduler::finish(Sequence& s, EngineEvent event, std::vector<EngineEvent>& events) {
  event.kind = EngineEvent::Kind::finish;
  event.request = s.request.id;
  events.push_back(std::move(event));
  release(s);
  if (s.phase == Phase::waiting) {
    remove(waiting_, &s);
  } else {
    remove(running_, &s);
  }
  ++stats_.finished;
  sequences_.erase(s.request.id);
}

}  // namespace mor
