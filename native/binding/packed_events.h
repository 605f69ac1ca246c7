// PackedEvents: what happened in one step of an engine, packed for one call of JavaScript.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "binding/convert.h"
#include "engine/request.h"

namespace mor::binding {

/// `eventKind` of lib/native/engine.ts, in the order of its numbers.
enum class EventKind : uint8_t { token, stop, length, abort, error, top, prompt, prefill };
constexpr std::array kEventKindNames{"token", "stop", "length", "abort", "error", "top", "prompt", "prefill"};
static_assert(kEventKindNames.size() == static_cast<size_t>(EventKind::prefill) + 1);
/// `eventStride` of lib/native/engine.ts: numbers of one event.
constexpr size_t kEventStride = 5;

struct PackedEvents {
  std::vector<double> packed;         ///< [request, kind, token, depth, logprob]*
  std::vector<std::string> messages;  ///< one for every error, in order
  std::vector<uint64_t> finished;     ///< requests of which no more will come

  /// A token, generated, of the prompt, or one that stops the request: first the time of the prefill if the event says
  /// it, then its most likely tokens if the event has them, one event each.
  void token(const RequestEvent& event);
  /// By length or abort.
  void finish(uint64_t request, FinishReason reason);
  void fail(uint64_t request, const Failure& failure);

 private:
  void add(uint64_t request, EventKind kind, int64_t token, int32_t depth, double logprob);
};

}  // namespace mor::binding
