// NativeEngine of lib/native.ts. Must not decide anything about batching or sampling.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_set>

#include "binding/engine_resident.h"
#include "binding/model_core.h"

namespace mor::binding {

class EngineWrap final : public Napi::ObjectWrap<EngineWrap> {
 public:
  static void define(Napi::Env env);
  /// createEngine(model, options, onEvents): NativeEngine. The KV cache is allocated on the model's worker; if it
  /// cannot be, the first request ends with that error.
  static Napi::Value create(const Napi::CallbackInfo& info);

  explicit EngineWrap(const Napi::CallbackInfo& info);
  ~EngineWrap() override;

  /// Hands the events of one step to JavaScript.
  void receive(const PackedEvents& events);

 private:
  Napi::Value submit(const Napi::CallbackInfo& info);
  Napi::Value abort(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  void post_tick();

  std::shared_ptr<ModelHost> host_;
  std::shared_ptr<EngineResident> resident_;
  std::shared_ptr<Life> life_;
  std::shared_ptr<EngineWrap*> port_;  ///< how events find this object; null once it has gone
  Napi::FunctionReference on_events_;
  std::unordered_set<uint64_t> active_;  ///< while there is one, this object and the process stay alive
};

}  // namespace mor::binding
