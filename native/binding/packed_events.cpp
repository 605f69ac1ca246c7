// PackedEvents: the layout of an event.
#include "binding/packed_events.h"

namespace mor::binding {

void PackedEvents::add(uint64_t request, EventKind kind, int64_t token, int32_t depth, double logprob) {
  const double event[kEventStride] = {static_cast<double>(request), static_cast<double>(kind),
                                      static_cast<double>(token), static_cast<double>(depth), logprob};
  packed.insert(packed.end(), std::begin(event), std::end(event));
}

void PackedEvents::token(const RequestEvent& event) {
  if (event.prefill_seconds >= 0) add(event.request, EventKind::prefill, -1, 0, event.prefill_seconds);
  for (const TokenLogprob& top : event.top_logprobs) add(event.request, EventKind::top, top.token, 0, top.logprob);
  constexpr EventKind kKind[] = {EventKind::token, EventKind::prompt, EventKind::stop};  // by kind
  add(event.request, kKind[static_cast<size_t>(event.kind)], event.token, event.depth, event.logprob);
  if (event.kind == RequestEvent::Kind::finish) finished.push_back(event.request);
}

void PackedEvents::finish(uint64_t request, FinishReason reason) {
  constexpr EventKind kKind[] = {EventKind::stop, EventKind::length, EventKind::abort, EventKind::error};  // by reason
  add(request, kKind[static_cast<size_t>(reason)], -1, 0, 0);
  finished.push_back(request);
}

void PackedEvents::fail(uint64_t request, const Failure& failure) {
  messages.push_back(failure.message);
  try {
    add(request, EventKind::error, static_cast<int64_t>(failure.code), 0, 0);
  } catch (...) {
    messages.pop_back();  // each belongs to an event
    throw;
  }
  finished.push_back(request);
}

}  // namespace mor::binding
