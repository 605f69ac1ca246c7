// Call: work that JavaScript asked of a model. It is posted when it is asked for, runs on the model's thread, and
// settles its promise on JavaScript's.
#pragma once

#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "binding/abort_listener.h"
#include "binding/convert.h"
#include "binding/model_thread.h"

namespace mor::binding {

/// What an abort does to work that has begun. Work that has not is taken out of the queue.
enum class Abort : uint8_t {
  stops,    ///< The promise rejects at once, and the work ends before its next layer, tensor or chunk.
  ignored,  ///< The work is finished and reported.
};

struct CallOptions {
  Napi::Value object;  ///< whose method was called; it is not collected before the call has ended
  std::shared_ptr<const DisposedFlag> disposed;  ///< of the object; null: the call itself disposes it
  std::string what;                              ///< the work and its sizes, as in "a step of 1 x 4 x 512 tokens"
  Napi::Value signal{};                          ///< an AbortSignal, undefined, or empty
  Abort abort = Abort::stops;
  Turn turn = Turn::in_order;
};

/// As long as the promise is pending the process stays alive.
class Call : public Task {
 public:
  Call(ModelThread& thread, const CallOptions& options);
  /// Throws DISPOSED where the object is disposed, and ABORTED where the signal has aborted.
  static Napi::Promise post(std::unique_ptr<Call> call, const CallOptions& options);

  void run() noexcept final;
  void settle() final;

 protected:
  /// On the model's thread.
  virtual void work(ModelThread& thread) = 0;
  /// On JavaScript's thread, if `work` did not throw.
  virtual Napi::Value result(Napi::Env env) = 0;

 private:
  /// Throws DISPOSED or ABORTED where nobody waits for the result any more. From any thread.
  void check_wanted() const;
  void on_abort();

  ModelThread& thread_;
  const Napi::Env env_;
  const Napi::ObjectReference object_;
  const std::shared_ptr<const DisposedFlag> disposed_;
  const std::string what_;
  const Abort abort_;
  std::optional<Napi::Promise::Deferred> deferred_;  ///< once the call is posted; one that is never settled would leak
  std::optional<AbortListener> listener_;
  std::atomic<bool> aborted_{false};
  std::optional<Failure> failure_;
};

template <class Work, class ToJs>
class CallOf final : public Call {
 public:
  CallOf(ModelThread& thread, const CallOptions& options, Work work, ToJs to_js)
      : Call(thread, options), work_(std::move(work)), to_js_(std::move(to_js)) {}

 private:
  void work(ModelThread& thread) override { value_.emplace(work_(thread)); }
  Napi::Value result(Napi::Env env) override { return to_js_(env, *value_); }

  Work work_;
  ToJs to_js_;
  std::optional<decltype(std::declval<Work&>()(std::declval<ModelThread&>()))> value_;
};

/// A promise for what `to_js(env, value)` makes of the value of `work(thread)`.
template <class Work, class ToJs>
Napi::Promise post_call(ModelThread& thread, const CallOptions& options, Work work, ToJs to_js) {
  return Call::post(std::make_unique<CallOf<Work, ToJs>>(thread, options, std::move(work), std::move(to_js)), options);
}

/// A promise for the end of `work(thread)`, which has no value.
template <class Work>
Napi::Promise post_call(ModelThread& thread, const CallOptions& options, Work work) {
  return post_call(
      thread, options,
      [work = std::move(work)](ModelThread& on_thread) {
        work(on_thread);
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

inline Napi::Promise resolved(Napi::Env env) {
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  deferred.Resolve(env.Undefined());
  return deferred.Promise();
}

}  // namespace mor::binding
