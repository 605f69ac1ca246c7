// NativeEngine of lib/native/engine.ts: requests in, events out.
#pragma once

#include <napi.h>

#include <memory>
#include <unordered_set>

#include "binding/engine_loop.h"
#include "binding/object_wrap.h"

namespace mor::binding {

class NativeEngine final : public ObjectWrap<NativeEngine> {
 public:
  static void define(Napi::Env env);
  /// createEngine(model, options, onEvents): NativeEngine. The KV cache is allocated on the model's thread; if it
  /// cannot be, the first request ends with that error.
  static Napi::Value create(const Napi::CallbackInfo& info);

  explicit NativeEngine(const Napi::CallbackInfo& info);
  ~NativeEngine() override;

  /// Hands the events of one step to JavaScript.
  void receive(const PackedEvents& events);

 private:
  Napi::Value submit(const Napi::CallbackInfo& info);
  Napi::Value abort(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<ModelThread> thread_;
  std::shared_ptr<DisposedFlag> disposed_;
  std::shared_ptr<EngineLoop> loop_;
  std::shared_ptr<NativeEngine*> receiver_;  ///< where events go; points to null once this object has been collected
  Napi::FunctionReference on_events_;
  std::unordered_set<uint64_t> active_;  ///< requests; while there are any, this object and the process stay alive
};

}  // namespace mor::binding
