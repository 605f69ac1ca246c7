// Promises for work on a worker: run there, settled on the thread of JavaScript.
// Must not know of models, trainers or engines.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "binding/convert.h"
#include "binding/environment.h"
#include "binding/life.h"
#include "binding/worker.h"

namespace mor::binding {

/// `work()` runs on the worker, `to_js(env, its value)` makes the promise's value. Both are destroyed on the thread of
/// JavaScript. While the promise is pending the process stays alive.
template <class Work, class ToJs>
class PromiseTask final : public Task {
 public:
  PromiseTask(Napi::Env env, std::shared_ptr<const Life> life, std::string what, Work work, ToJs to_js)
      : env_(env),
        life_(std::move(life)),
        what_(std::move(what)),
        work_(std::move(work)),
        to_js_(std::move(to_js)),
        deferred_(Napi::Promise::Deferred::New(env)) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

  void run() noexcept override {
    try {
      life_->check();
      value_.emplace(work_());
    } catch (...) {
      failure_ = current_failure(what_);
    }
  }

  void settle() override {
    Environment::of(env_).end_pending();
    try {
      life_->check();  // disposed in the middle of the work
      if (failure_.has_value()) return deferred_.Reject(binding::to_js(env_, *failure_));
      deferred_.Resolve(to_js_(env_, *value_));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (...) {
      deferred_.Reject(binding::to_js(env_, current_failure(what_)));
    }
  }

 private:
  Napi::Env env_;
  std::shared_ptr<const Life> life_;
  std::string what_;
  Work work_;
  ToJs to_js_;
  Napi::Promise::Deferred deferred_;
  std::optional<decltype(std::declval<Work&>()())> value_;
  std::optional<Failure> failure_;
};

/// what: the work and its sizes, as in "a step of 4 x 512 tokens".
template <class Work, class ToJs>
Napi::Promise run_on(Worker& worker, Napi::Env env, std::shared_ptr<const Life> life, std::string what, Work work,
                     ToJs to_js) {
  life->check();
  auto task = std::make_unique<PromiseTask<Work, ToJs>>(env, std::move(life), std::move(what), std::move(work),
                                                        std::move(to_js));
  const Napi::Promise promise = task->promise();
  MOR_CHECK(worker.post(std::move(task)), DISPOSED, "the process is exiting");
  Environment::of(env).begin_pending();
  return promise;
}

/// For work without a value.
struct Nothing {};
inline Napi::Value to_undefined(Napi::Env env, const Nothing&) {
  return env.Undefined();
}

}  // namespace mor::binding
