// NativeTrainer of lib/native.ts. Must not do arithmetic on tensors.
#pragma once

#include <napi.h>

#include <memory>

#include "binding/external_memory.h"
#include "binding/model_core.h"

namespace mor::binding {

class TrainerResident;

class TrainerWrap final : public Napi::ObjectWrap<TrainerWrap> {
 public:
  static void define(Napi::Env env);
  /// createTrainer(model, options): Promise<NativeTrainer>.
  static Napi::Value create(const Napi::CallbackInfo& info);

  explicit TrainerWrap(const Napi::CallbackInfo& info);
  ~TrainerWrap() override { end(); }

 private:
  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value state(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  /// Runs `work(core, trainer)` on the model's worker; see run_on.
  template <class Work, class ToJs>
  Napi::Promise run(const Napi::CallbackInfo& info, std::string what, Work work, ToJs to_js);
  void end();

  std::shared_ptr<ModelHost> host_;
  std::shared_ptr<TrainerResident> resident_;
  std::shared_ptr<Life> life_;
  ExternalMemory external_memory_;
};

}  // namespace mor::binding
