// EngineLoop: runs the steps of an engine on its model's thread, in turn with the model's other work, as long as there
// are requests.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "binding/model_thread.h"
#include "binding/packed_events.h"
#include "engine/engine.h"

namespace mor::binding {

class EngineLoop final : public ModelUser {
 public:
  /// Sends events to JavaScript; called on the model's thread.
  using Deliver = std::function<void(PackedEvents)>;
  EngineLoop(const EngineOptions& options, int32_t recursions, Deliver deliver);

  // ---- from any thread
  // submit and abort return whether the loop has to be started: it stops when there is nothing left to do.
  bool submit(uint64_t request, std::vector<int32_t> prompt, const GenerateParams& params);
  bool abort(uint64_t request);
  EngineStats stats() const;

  // ---- on the model's thread
  /// Hands new requests and aborts to the engine, runs one step and delivers its events. Returns whether there is more
  /// to do.
  bool turn(ModelThread& thread);
  /// Ends every request with an abort event.
  void abort_all();
  /// Ends requests that are left with DISPOSED.
  void release() noexcept override;
  void add_memory(MemoryByPurpose& use) const override;

 private:
  struct Submission {
    uint64_t request;
    std::vector<int32_t> prompt;
    GenerateParams params;
  };
  /// What the engine has not been told yet.
  struct Inbox {
    std::deque<Submission> submissions;
    std::vector<uint64_t> aborts;
    bool empty() const { return submissions.empty() && aborts.empty(); }
  };
  Inbox take_inbox();
  void make_engine(ModelThread& thread);
  void take_in(Inbox& inbox, PackedEvents& events);
  void step(PackedEvents& events);
  /// Ends every request, those in the inbox too.
  template <class End>
  void end_all(const End& end);

  const EngineOptions options_;
  const Deliver deliver_;
  EngineStats no_stats_;            ///< while there is no engine
  std::unique_ptr<Engine> engine_;  ///< made in the first turn, and again in the turn after a failure
  std::unordered_set<uint64_t> active_;

  mutable std::mutex mutex_;  ///< of everything below
  Inbox inbox_;
  bool running_ = false;
  EngineStats stats_;
};

}  // namespace mor::binding
