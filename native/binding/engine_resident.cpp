// EngineResident: inbox, tick, events. Must not know of Node.
#include "binding/engine_resident.h"

#include <utility>

namespace mor::binding {

void PackedEvents::token(const RequestEvent& event, int32_t depth) {
  for (const TokenLogprob& top : event.top_logprobs)
    packed.insert(packed.end(), {static_cast<double>(event.request), kTop, static_cast<double>(top.token), 0,
                                 static_cast<double>(top.logprob)});
  packed.insert(packed.end(), {static_cast<double>(event.request), kToken, static_cast<double>(event.token),
                               static_cast<double>(depth), static_cast<double>(event.logprob)});
}

void PackedEvents::finish(uint64_t request, Kind kind) {
  packed.insert(packed.end(), {static_cast<double>(request), static_cast<double>(kind), -1, 0, 0});
  finished.push_back(request);
}

void PackedEvents::fail(uint64_t request, const Failure& failure) {
  packed.insert(packed.end(), {static_cast<double>(request), kError, static_cast<double>(failure.code), 0, 0});
  messages.push_back(failure.message);
  finished.push_back(request);
}

bool EngineResident::submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params) {
  const std::lock_guard<std::mutex> lock(mutex_);
  inbox_.submissions.push_back({request, std::move(prompt), params});
  return !std::exchange(scheduled_, true);
}

bool EngineResident::abort(uint64_t request) {
  const std::lock_guard<std::mutex> lock(mutex_);
  inbox_.aborts.push_back(request);
  return !std::exchange(scheduled_, true);
}

EngineStats EngineResident::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

EngineResident::Inbox EngineResident::take_inbox() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(inbox_, {});
}

bool EngineResident::tick(ModelCore& core) {
  PackedEvents events;
  Inbox inbox = take_inbox();
  try {
    if (engine_ == nullptr) make_engine(core);
    take_in(inbox, events);
    if (!active_.empty()) step(events, core.config());
  } catch (...) {
    // The engine is in an unknown state: its requests end here, and the next one finds a new engine.
    const Failure failure = current_failure("generation");
    for (const Submission& submission : inbox.submissions) active_.insert(submission.request);
    fail_active(events, failure);
    engine_.reset();
  }
  core.refresh_memory();
  {
    const EngineStats stats = engine_ == nullptr ? EngineStats{} : engine_->stats();
    const std::lock_guard<std::mutex> lock(mutex_);
    stats_ = stats;  // before the events: who hears that a request has ended finds it ended here, too
  }
  deliver_(std::move(events));
  const std::lock_guard<std::mutex> lock(mutex_);
  scheduled_ = !active_.empty() || !inbox_.submissions.empty() || !inbox_.aborts.empty();
  return scheduled_;
}

void EngineResident::make_engine(ModelCore& core) {
  try {
    engine_ = std::make_unique<Engine>(core.model(), options_);
  } catch (...) {
    core.rethrow();
  }
}

void EngineResident::take_in(Inbox& inbox, PackedEvents& events) {
  while (!inbox.submissions.empty()) {
    Submission& submission = inbox.submissions.front();
    try {
      active_.insert(submission.request);  // first: what the engine has taken in must be known here
      engine_->submit(submission.request, std::move(submission.prompt), submission.params);
    } catch (...) {
      active_.erase(submission.request);
      events.fail(submission.request, current_failure("a prompt"));
    }
    inbox.submissions.pop_front();
  }
  for (const uint64_t request : inbox.aborts) engine_->abort(request);
}

void EngineResident::step(PackedEvents& events, const ModelConfig& config) {
  std::vector<RequestEvent> happened;
  engine_->step(happened);
  for (const RequestEvent& event : happened) {
    if (event.kind == RequestEvent::Kind::token) {
      // Without a block that recurs as a whole every token runs all recursions.
      events.token(event, config.body_recursions() == 0 ? config.num_recursions : event.depth);
      continue;
    }
    active_.erase(event.request);
    switch (event.reason) {
      case FinishReason::stop:
        events.finish(event.request, PackedEvents::kStop);
        break;
      case FinishReason::length:
        events.finish(event.request, PackedEvents::kLength);
        break;
      case FinishReason::abort:
        events.finish(event.request, PackedEvents::kAbort);
        break;
      case FinishReason::error:
        events.fail(event.request, {event.code, event.message});
        break;
    }
  }
}

void EngineResident::fail_active(PackedEvents& events, const Failure& failure) {
  for (const uint64_t request : active_) events.fail(request, failure);
  active_.clear();
}

void EngineResident::abort_all() {
  PackedEvents events;
  for (const Submission& submission : take_inbox().submissions) active_.insert(submission.request);
  for (const uint64_t request : active_) events.finish(request, PackedEvents::kAbort);
  active_.clear();
  deliver_(std::move(events));
}

void EngineResident::release() noexcept {
  PackedEvents events;
  for (const Submission& submission : take_inbox().submissions) active_.insert(submission.request);
  fail_active(events, {ErrorCode::DISPOSED, "the model is disposed"});
  engine_.reset();
  deliver_(std::move(events));
}

void EngineResident::add_memory(MemoryByPurpose& use) const {
  if (engine_ != nullptr) use["kvCache"] += engine_->stats().kv_bytes_total;
}

}  // namespace mor::binding
