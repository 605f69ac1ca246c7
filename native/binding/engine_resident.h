// EngineResident: an engine on its model's worker, stepped by ticks that take turns with the model's other work.
// Must not know of Node: events leave through a delivery that engine_wrap makes.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "binding/convert.h"
#include "binding/model_core.h"
#include "engine/engine.h"

namespace mor::binding {

/// What happened in one step, packed for one crossing: [request, kind, token, depth, logprob]*, as lib/native.ts says.
struct PackedEvents {
  enum Kind { kToken, kStop, kLength, kAbort, kError, kTop };
  std::vector<double> packed;
  std::vector<std::string> messages;  ///< one for every error, in order
  std::vector<uint64_t> finished;     ///< requests of which no more will come

  /// First its most likely tokens where the event has them, one record each, then the token.
  void token(const RequestEvent& event, int32_t depth);
  void finish(uint64_t request, Kind kind);
  void fail(uint64_t request, const Failure& failure);
};

class EngineResident final : public Resident {
 public:
  /// Takes events out; called on the worker's thread.
  using Deliver = std::function<void(PackedEvents)>;
  EngineResident(const EngineOptions& options, int32_t recursions, Deliver deliver)
      : options_(options), deliver_(std::move(deliver)) {
    stats_.depth_histogram.resize(static_cast<size_t>(recursions));
  }

  // ---- from any thread. Both return whether a tick must be posted
  bool submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params);
  bool abort(uint64_t request);
  EngineStats stats() const;

  // ---- on the worker's thread
  /// Takes in what was asked, runs one step and delivers its events. Returns whether another tick must be posted.
  bool tick(ModelCore& core);
  /// Every request ends with abort.
  void abort_all();
  /// Gives the memory back; requests that are left end with DISPOSED.
  void release() noexcept override;
  void add_memory(MemoryByPurpose& use) const override;

 private:
  struct Submission {
    uint64_t request;
    std::vector<int32_t> prompt;
    GenerateParams params;
  };
  struct Inbox {
    std::deque<Submission> submissions;
    std::vector<uint64_t> aborts;
  };
  Inbox take_inbox();
  void make_engine(ModelCore& core);
  void take_in(Inbox& inbox, PackedEvents& events);
  void step(PackedEvents& events, const ModelConfig& config);
  void fail_active(PackedEvents& events, const Failure& failure);

  const EngineOptions options_;
  const Deliver deliver_;
  std::unique_ptr<Engine> engine_;
  std::unordered_set<uint64_t> active_;

  mutable std::mutex mutex_;  ///< of everything below
  Inbox inbox_;
  bool scheduled_ = false;
  EngineStats stats_;
};

}  // namespace mor::binding
