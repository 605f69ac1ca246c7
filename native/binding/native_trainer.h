// NativeTrainer of lib/native/trainer.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <string>

#include "binding/call.h"
#include "binding/external_memory.h"
#include "binding/model_trainer.h"
#include "binding/object_wrap.h"

namespace mor::binding {

class NativeTrainer final : public ObjectWrap<NativeTrainer> {
 public:
  static void define(Napi::Env env);
  /// createTrainer(model, options): NativeTrainer. Its memory is allocated on the model's thread; if it cannot be,
  /// every call rejects with that error. Throws INVALID_ARGUMENT while the model has another trainer.
  static Napi::Value create(const Napi::CallbackInfo& info);

  explicit NativeTrainer(const Napi::CallbackInfo& info);
  ~NativeTrainer() override;

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value fail(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value tensors(const Napi::CallbackInfo& info);
  Napi::Value steps_done(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  CallOptions options(const Napi::CallbackInfo& info, std::string what, const Napi::Value& signal = {}) const;
  /// Posts a call that runs `work(thread, trainer)`; see post_call.
  template <class Work, class ToJs>
  Napi::Promise run(const CallOptions& options, Work work, ToJs to_js);
  /// Of work that has no value.
  template <class Work>
  Napi::Promise run(const CallOptions& options, Work work);

  std::shared_ptr<ModelThread> thread_;
  std::shared_ptr<ModelTrainer> trainer_;
  ExternalMemory external_memory_;
};

}  // namespace mor::binding
