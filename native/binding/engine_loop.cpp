// EngineLoop: what happens in one turn, and how requests end.
#include "binding/engine_loop.h"

namespace mor::binding {

EngineLoop::EngineLoop(const EngineOptions& options, int32_t recursions, Deliver deliver)
    : options_(options), deliver_(std::move(deliver)) {
  no_stats_.depth_histogram.resize(static_cast<size_t>(recursions));
  stats_ = no_stats_;
}

bool EngineLoop::submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params) {
  const std::lock_guard<std::mutex> lock(mutex_);
  inbox_.submissions.push_back({request, std::move(prompt), params});
  return !std::exchange(running_, true);
}

bool EngineLoop::abort(uint64_t request) {
  const std::lock_guard<std::mutex> lock(mutex_);
  inbox_.aborts.push_back(request);
  return !std::exchange(running_, true);
}

EngineStats EngineLoop::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

EngineLoop::Inbox EngineLoop::take_inbox() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(inbox_, {});
}

bool EngineLoop::turn(ModelThread& thread) {
  PackedEvents events;
  Inbox inbox = take_inbox();
  try {
    if (engine_ == nullptr) make_engine(thread);
    take_in(inbox, events);
    if (!active_.empty()) step(events);
  } catch (...) {
    // The engine is in an unknown state: its requests end here, and the next one finds a new engine.
    const Failure failure = current_failure("generation");
    for (const Submission& submission : inbox.submissions) active_.insert(submission.request);
    for (const uint64_t request : active_) events.fail(request, failure);
    active_.clear();
    engine_.reset();
  }
  thread.refresh_memory();
  {
    const EngineStats stats = engine_ == nullptr ? no_stats_ : engine_->stats();
    const std::lock_guard<std::mutex> lock(mutex_);
    stats_ = stats;  // before the events, so that statistics that a listener reads include them
  }
  deliver_(std::move(events));
  const std::lock_guard<std::mutex> lock(mutex_);
  running_ = !active_.empty() || !inbox_.empty();
  return running_;
}

void EngineLoop::make_engine(ModelThread& thread) {
  try {
    engine_ = std::make_unique<Engine>(thread.model(), options_);
  } catch (...) {
    thread.rethrow_explained();
  }
}

void EngineLoop::take_in(Inbox& inbox, PackedEvents& events) {
  while (!inbox.submissions.empty()) {
    Submission& submission = inbox.submissions.front();
    try {
      active_.insert(submission.request);  // before submit: a request that the engine has must be in the set
      engine_->submit(submission.request, std::move(submission.prompt), submission.params);
    } catch (...) {
      events.fail(submission.request, current_failure("a prompt"));
      active_.erase(submission.request);
    }
    inbox.submissions.pop_front();
  }
  for (const uint64_t request : inbox.aborts) engine_->abort(request);
}

void EngineLoop::step(PackedEvents& events) {
  std::vector<RequestEvent> happened;
  engine_->step(happened);
  for (const RequestEvent& event : happened) {
    const bool ends = event.kind == RequestEvent::Kind::finish;
    if (!ends || event.reason == FinishReason::stop)
      events.token(event);
    else if (event.reason == FinishReason::error)
      events.fail(event.request, {event.code, event.message});
    else
      events.finish(event.request, event.reason);
    if (ends)
      active_.erase(event.request);  // last, since where there is no memory for the event `turn` ends the request
  }
}

template <class End>
void EngineLoop::end_all(const End& end) {
  PackedEvents events;
  for (const Submission& submission : take_inbox().submissions) active_.insert(submission.request);
  for (const uint64_t request : active_) end(events, request);
  active_.clear();
  deliver_(std::move(events));
}

void EngineLoop::abort_all() {
  end_all([](PackedEvents& events, uint64_t request) { events.finish(request, FinishReason::abort); });
}

void EngineLoop::release() noexcept {
  engine_.reset();
  const Failure disposed{ErrorCode::DISPOSED, "the model is disposed"};
  end_all([&](PackedEvents& events, uint64_t request) { events.fail(request, disposed); });
}

void EngineLoop::add_memory(MemoryByPurpose& use) const {
  if (engine_ == nullptr) return;
  const Engine::Memory own = engine_->memory();
  use["kvCache"] += own.kv_cache;
  use["activations"] += own.activations;
}

}  // namespace mor::binding
