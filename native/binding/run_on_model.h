// Work on a model's worker for an object that JavaScript holds. Must not know which object.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "binding/async.h"
#include "binding/model_core.h"

namespace mor::binding {

/// For long work: throws DISPOSED once the object is disposed or its environment is going away.
inline CancelCheck give_up_when_disposed(const ModelCore& core, std::shared_ptr<const Life> life) {
  return [&worker = core.worker(), life = std::move(life)] {
    life->check();
    MOR_CHECK(!worker.stopping(), DISPOSED, "the process is exiting");
  };
}

/// While it lives, passes of the model give up between two layers when `life` ends. On the worker's thread.
class Interruptible {
 public:
  Interruptible(ModelCore& core, std::shared_ptr<const Life> life) : core_(core) {
    if (core.created()) core.model().set_interruption(give_up_when_disposed(core, std::move(life)));
  }
  ~Interruptible() {
    if (core_.created()) core_.model().set_interruption({});
  }
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  ModelCore& core_;
};

/// Runs `work(core)` on the worker and settles with `to_js(env, its value)`. `self` cannot be collected until then.
template <class Work, class ToJs>
Napi::Promise run_on_model(Napi::Object self, std::shared_ptr<ModelCore> core, std::shared_ptr<const Life> life,
                           std::string what, Work work, ToJs to_js) {
  ModelCore& model = *core;
  auto kept = std::make_shared<Napi::ObjectReference>(Napi::Persistent(self));
  return run_on(
      model.worker(), self.Env(), life, std::move(what),
      [core = std::move(core), life, work = std::move(work)]() mutable {
        const Interruptible scope(*core, life);
        try {
          auto value = work(*core);
          core->refresh_memory();
          return value;
        } catch (...) {
          core->rethrow();
        }
      },
      [kept, to_js = std::move(to_js)](Napi::Env env, auto& value) -> Napi::Value { return to_js(env, value); });
}

}  // namespace mor::binding
