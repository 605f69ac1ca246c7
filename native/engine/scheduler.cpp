// Scheduler: submission, admission, memory, preemption and the end of requests.
#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>

namespace mor {

namespace {

constexpr size_t kLongestMessage = 1000;  // of a failure; what is longer is cut off

}  // namespace

Scheduler::Scheduler(SchedulerConfig config)
    : config_(std::move(config)),
      pool_(config_.scratch_blocks, config_.blocks - config_.scratch_blocks),
      prefixes_(pool_),
      chosen_(lists()),
      reach_(lists(), 1) {
  for (int32_t slot = stream_rows(); slot-- > 0;) free_slots_.push_back(slot);
  running_.reserve(static_cast<size_t>(config_.max_sequences));
  ready_.reserve(static_cast<size_t>(config_.max_sequences));
  failure_message_.reserve(kLongestMessage);
  stats_.depth_histogram.resize(static_cast<size_t>(config_.rules.num_recursions));
}

void Scheduler::submit(Request request) {
  MOR_CHECK(sequences_.count(request.id) == 0, INVALID_ARGUMENT, "request ", request.id, " is under way already");
  // The last token is only reported, it does not run.
  const int64_t tokens = static_cast<int64_t>(request.prompt.size()) + std::max(request.max_tokens - 1, 0);
  const int64_t needed = blocks_for(request, tokens);
  MOR_CHECK(needed <= pool_.total(), CONTEXT_OVERFLOW, "the request may need ", needed, " KV blocks (", tokens,
            " tokens), but the cache has ", pool_.total(), "; lower maxTokens or raise kvCacheBytes");
  const uint64_t id = request.id;
  auto sequence = std::make_unique<Sequence>(std::move(request), config_.rules.passes(), arrivals_++);
  sequence->extends_prefix = config_.prefix_cache;
  const auto place = sequences_.emplace(id, std::move(sequence)).first;
  try {
    waiting_.insert(place->second.get());
  } catch (...) {
    sequences_.erase(place);
    throw;
  }
}

void Scheduler::abort(uint64_t id) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  found->second->ending = FinishReason::abort;
  any_ending_ = true;
}

void Scheduler::begin_step(std::vector<RequestEvent>& events) {
  if (!any_ending_) return;
  for (auto next = sequences_.begin(); next != sequences_.end();) {
    Sequence& s = *next++->second;  // `finish` destroys it
    if (s.ending == FinishReason::abort) {
      finish(s, {.reason = FinishReason::abort}, events);
    } else if (s.ending == FinishReason::error) {
      finish(s, {.reason = FinishReason::error, .code = failure_code_, .message = failure_message_}, events);
    }
  }
  any_ending_ = false;
}

void Scheduler::fail_running(ErrorCode code, std::string_view message) {
  failure_code_ = code;
  failure_message_.assign(message.substr(0, kLongestMessage));
  for (Sequence* s : running_)
    if (!s->ending) s->ending = FinishReason::error;
  any_ending_ = any_ending_ || !running_.empty();
  exit_uncounted_ = false;
  forget_prefixes();
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.running = static_cast<int64_t>(running_.size());
  stats.waiting = static_cast<int64_t>(waiting_.size());
  stats.kv_blocks_total = pool_.total();
  stats.kv_blocks_used = pool_.used();
  stats.kv_blocks_cached = pool_.cached();
  stats.kv_blocks_free = pool_.free();
  for (const Sequence* s : running_) stats.running_tokens += s->entered;
  return stats;
}

bool Scheduler::uses(const Request& request, size_t list) const {
  if (list == 0) return config_.layers_outside_block;
  const int32_t r = static_cast<int32_t>(list);
  return r <= request.max_recursions && !config_.rules.queries_only(r);
}

/// Blocks for `tokens` tokens that run every recursion which the request allows.
int64_t Scheduler::blocks_for(const Request& request, int64_t tokens) const {
  int64_t blocks = 0;
  for (size_t list = 0; list < lists(); ++list)
    if (uses(request, list)) blocks += blocks_of(tokens, block_size(list));
  return blocks;
}

/// How many more blocks `rows` further tokens of `s` need: at most, or, if `expected`, at the depths seen so far.
int64_t Scheduler::blocks_missing(const Sequence& s, int32_t rows, bool expected) const {
  int64_t missing = 0;
  for (size_t list = 0; list < s.keys.size(); ++list) {
    if (!uses(s.request, list)) continue;
    const KeyList& keys = s.keys[list];
    const int32_t more = expected ? expected_keys(list, rows) : rows;
    const int64_t beyond = keys.count + more - static_cast<int64_t>(keys.blocks.size()) * block_size(list);
    if (beyond > 0) missing += blocks_of(beyond, block_size(list));
  }
  return missing;
}

/// Keys that `tokens` tokens leave in a list, at the depths seen so far.
int32_t Scheduler::expected_keys(size_t list, int32_t tokens) const {
  return static_cast<int32_t>(std::ceil(reach_[list] * tokens));
}

/// How many further tokens of `s` admission provides for.
int32_t Scheduler::tokens_ahead(const Sequence& s) const {
  return std::min(s.request.max_tokens - s.generated(), config_.block_size);
}

/// Fills `reach_` from the depths counted so far.
void Scheduler::update_reach() {
  int64_t reached = 0;
  for (size_t list = reach_.size(); list-- > 1;) {
    reached += stats_.depth_histogram[list - 1];
    if (stats_.tokens_run > 0) reach_[list] = static_cast<double>(reached) / static_cast<double>(stats_.tokens_run);
  }
}

/// A free block, or else one that only prefixes keep. The caller has asked `blocks_available`.
int32_t Scheduler::take_block() {
  while (pool_.free() == 0 && pool_.cached() > 0)
    if (!prefixes_.evict()) forget_prefixes();
  return pool_.take();
}

/// Preempts sequences that come after `s` until `rows` more tokens of `s` fit. False if the sequences before `s` hold
/// too much, so that `s` must wait. The first of all sequences never waits, so every sequence comes to its end.
bool Scheduler::make_room(const Sequence& s, int32_t rows) {
  const int64_t missing = blocks_missing(s, rows, false);
  while (missing > blocks_available()) {
    if (running_.back() == &s) return false;
    preempt(*running_.back());
  }
  return true;
}

/// Whether the first waiting sequence is to be admitted. The cache must have room for all the tokens that it has by
/// now, at any depth, so that its prompt is not preempted half-way; and for the next block's worth of tokens of all
/// sequences that run then, at the expected depths, so that none of them is preempted soon. Running sequences of lower
/// priority count as room, those of equal priority do not.
bool Scheduler::may_admit() {
  if (waiting_.empty() || prompt_rows_ >= config_.prefill_chunk) return false;
  Sequence& s = **waiting_.begin();
  size_t stay = running_.size();
  while (stay > 0 && running_[stay - 1]->request.priority < s.request.priority) --stay;
  if (static_cast<int32_t>(stay) >= config_.max_sequences) return false;
  match_prefix(s);
  if (running_.empty()) {
    // A sequence fits if it runs alone (see `submit`), but perhaps not together with the blocks that it would copy
    // from.
    if (blocks_beyond_match(s, false) > blocks_available()) match_.clear(s.keys.size());
    return true;
  }
  int64_t room = blocks_available();
  for (size_t i = stay; i < running_.size(); ++i)
    for (size_t list = 0; list < running_[i]->keys.size(); ++list) {
      const std::vector<int32_t>& theirs = running_[i]->keys[list].blocks;
      const std::vector<int32_t>& found = match_.blocks[list];  // `s` takes them over, so they are no room
      for (size_t j = 0; j < theirs.size(); ++j) {
        const int32_t block = theirs[j] / block_stride(list);
        if (pool_.users(block) == 1 && !(j < found.size() && found[j] == block)) ++room;
      }
    }
  const bool fits = blocks_beyond_match(s, false) <= room;
  if (fits && stay > 0) {
    update_reach();
    int64_t soon = blocks_beyond_match(s, true);
    for (size_t i = 0; i < stay; ++i) {
      const Sequence& other = *running_[i];
      soon += blocks_missing(other, other.length() - other.entered + tokens_ahead(other), true);
    }
    return soon <= room;
  }
  if (fits || stay > 0) return fits;
  // All other sequences must go. Then `s` runs alone, and fits if the blocks that it would copy from go as well.
  match_.clear(s.keys.size());
  return true;
}

/// After `may_admit`: lets the first waiting sequence run.
void Scheduler::admit() {
  Sequence& s = **waiting_.begin();
  while (!running_.empty() && running_.back()->request.priority < s.request.priority &&
         (static_cast<int32_t>(running_.size()) >= config_.max_sequences ||
          blocks_beyond_match(s, false) > blocks_available()))
    preempt(*running_.back());
  running_.insert(std::lower_bound(running_.begin(), running_.end(), &s, Before()), &s);
  waiting_.erase(&s);
  s.phase = Phase::entering;
  if (!s.began) s.began = Sequence::Clock::now();
  take_over_match(s);
}

/// Takes everything from a running sequence; it will be computed again. Causal routing gives the same depths and keys
/// again, so only time is lost.
void Scheduler::preempt(Sequence& s) {
  waiting_.insert(&s);  // first, because it may throw
  release(s);
  std::erase(running_, &s);
  s.phase = Phase::waiting;
  s.entered = 0;
  ++stats_.preemptions;
}

/// Gives back the blocks behind those of the first `keys` keys.
void Scheduler::give_back_blocks(KeyList& list, size_t index, int32_t keys) {
  while (!list.blocks.empty() && static_cast<int64_t>(list.blocks.size() - 1) * block_size(index) >= keys) {
    pool_.give_back(list.blocks.back() / block_stride(index));
    list.blocks.pop_back();
  }
}

void Scheduler::give_back_rows(Sequence& s) {
  for (const InFlight& row : s.rows) free_slots_.push_back(row.slot);
  s.rows.clear();
  s.active.clear();
  prompt_rows_ -= s.prompt_rows;
  s.prompt_rows = 0;
}

/// Gives back everything that `s` holds.
void Scheduler::release(Sequence& s) {
  if (s.phase == Phase::block) std::erase(ready_, &s);
  give_back_rows(s);
  for (size_t list = 0; list < s.keys.size(); ++list) {
    give_back_blocks(s.keys[list], list, 0);
    s.keys[list].count = 0;
    s.keys[list].visible_slots.clear();
  }
  if (s.prefix != nullptr) prefixes_.remove_user(*s.prefix);
  s.prefix = nullptr;
  s.prefix_tokens = 0;
  std::fill(s.prefix_keys.begin(), s.prefix_keys.end(), 0);
  s.depths.clear();
  s.extends_prefix = config_.prefix_cache;
}

/// Reports the end of `s` and destroys it.
void Scheduler::finish(Sequence& s, RequestEvent event, std::vector<RequestEvent>& events) {
  event.kind = RequestEvent::Kind::finish;
  event.request = s.request.id;
  events.push_back(std::move(event));
  release(s);
  if (s.phase == Phase::waiting) {
    waiting_.erase(&s);
  } else {
    std::erase(running_, &s);
  }
  ++stats_.finished;
  sequences_.erase(s.request.id);
}

}  // namespace mor
