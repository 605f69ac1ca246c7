// NativeModel of lib/native.ts. Must not do arithmetic on tensors.
#pragma once

#include <napi.h>

#include <memory>

#include "binding/convert.h"
#include "binding/external_memory.h"
#include "binding/model_core.h"

namespace mor::binding {

class ModelWrap final : public Napi::ObjectWrap<ModelWrap> {
 public:
  static void define(Napi::Env env);
  /// createModel(config, options): Promise<NativeModel>.
  static Napi::Value create(const Napi::CallbackInfo& info);
  /// The model behind an argument. Throws INVALID_ARGUMENT if it is anything else, DISPOSED if it is no more.
  static const std::shared_ptr<ModelHost>& host_of(const Input& input);

  explicit ModelWrap(const Napi::CallbackInfo& info);

 private:
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value init(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value forward(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  /// Runs `work(core)` on the model's worker; see run_on.
  template <class Work, class ToJs>
  Napi::Promise run(const Napi::CallbackInfo& info, std::string what, Work work, ToJs to_js);

  std::shared_ptr<ModelHost> host_;
  ExternalMemory external_memory_;
};

}  // namespace mor::binding
