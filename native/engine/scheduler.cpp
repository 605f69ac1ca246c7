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
    : config_(std::move(config)),
      pool_(config_.scratch_blocks, config_.blocks - config_.scratch_blocks),
      prefixes_(pool_) {
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
  auto sequence = std::make_unique<Sequence>(std::move(request), config_.recursions, arrivals_++);
  sequence->extends_prefix = config_.prefix_cache;
  waiting_.insert(sequence.get());
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
  forget_prefixes();
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.blocks_total = pool_.total();
  stats.blocks_used = pool_.used();
  stats.blocks_cached = pool_.cached();
  for (const Sequence* s : running_) stats.running_tokens += s->entered;
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

/// One that is free, or else one that prefixes keep. The caller has asked `blocks_available`.
int32_t Scheduler::take_block() {
  while (pool_.free() == 0 && pool_.cached() > 0)
    if (!prefixes_.evict()) forget_prefixes();
  return pool_.take();
}

/// Preempts sequences that come after `s` until `rows` more tokens of `s` fit. Where those before it hold too much, `s`
/// must wait: the first of all never does, so everybody gets through.
bool Scheduler::make_room(const Sequence& s, int32_t rows) {
  const int64_t missing = blocks_missing(s, rows);
  while (missing > blocks_available()) {
    if (running_.back() == &s) return false;
    preempt(*running_.back());
  }
  return true;
}

/// The next request comes in once the cache has room for all that it has by now, at any depth; so prompts are not
/// started to be thrown out again. For its room those of lower priority must go, but never its equals.
bool Scheduler::may_admit() {
  if (waiting_.empty() || prompt_rows_ >= config_.prefill_chunk) return false;
  Sequence& s = **waiting_.begin();
  size_t stay = running_.size();
  while (stay > 0 && running_[stay - 1]->request.priority < s.request.priority) --stay;
  if (static_cast<int32_t>(stay) >= config_.max_sequences) return false;
  match_prefix(s);
  if (running_.empty()) {
    // Whoever is alone fits; but where he only just fits, not beside what he would copy from.
    if (blocks_beyond_match(s) > blocks_available()) match_.clear(s.keys.size());
    return true;
  }
  int64_t room = blocks_available();
  for (size_t i = stay; i < running_.size(); ++i)
    for (size_t list = 0; list < running_[i]->keys.size(); ++list) {
      const std::vector<int32_t>& theirs = running_[i]->keys[list].blocks;
      const std::vector<int32_t>& found = match_.blocks[list];  // what `s` takes over stays in use: it is no room
      for (size_t j = 0; j < theirs.size(); ++j) {
        const int32_t block = theirs[j] / block_stride(list);
        if (pool_.users(block) == 1 && !(j < found.size() && found[j] == block)) ++room;
      }
    }
  if (blocks_beyond_match(s) <= room) return true;
  if (stay > 0) return false;
  // All others must go, and then `s` is alone: what it would copy from, too.
  match_.clear(s.keys.size());
  return true;
}

/// After `may_admit`: the first that waits becomes one of the running.
void Scheduler::admit() {
  Sequence& s = **waiting_.begin();
  while (
      !running_.empty() && running_.back()->request.priority < s.request.priority &&
      (static_cast<int32_t>(running_.size()) >= config_.max_sequences || blocks_beyond_match(s) > blocks_available()))
    preempt(*running_.back());
  waiting_.erase(&s);
  running_.insert(std::lower_bound(running_.begin(), running_.end(), &s, Before()), &s);
  s.phase = Phase::entering;
  take_over_match(s);
}

/// Recomputation: causal routing gives the same depths and keys again, so only time is lost.
void Scheduler::preempt(Sequence& s) {
  release(s);
  remove(running_, &s);
  waiting_.insert(&s);
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
  if (s.prefix != nullptr) prefixes_.remove_user(*s.prefix);
  s.prefix = nullptr;
  s.prefix_tokens = 0;
  s.prefix_keys.assign(s.keys.size(), 0);
  s.depths.clear();
  s.extends_prefix = config_.prefix_cache;
}

/// `s` is gone afterwards.
void Scheduler::finish(Sequence& s, EngineEvent event, std::vector<EngineEvent>& events) {
  event.kind = EngineEvent::Kind::finish;
  event.request = s.request.id;
  events.push_back(std::move(event));
  release(s);
  if (s.phase == Phase::waiting) {
    waiting_.erase(&s);
  } else {
    remove(running_, &s);
  }
  ++stats_.finished;
  sequences_.erase(s.request.id);
}

}  // namespace mor
