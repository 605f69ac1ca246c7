// The addon's entry: one Environment for every Node environment that loads it, the functions of lib/native/addon.ts,
// and the constants that both sides must agree on.
#include <napi.h>

#include "binding/call.h"
#include "binding/convert.h"
#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_engine.h"
#include "binding/native_model.h"
#include "binding/native_ranks.h"
#include "binding/native_results.h"
#include "binding/native_trainer.h"
#include "core/token_logprob.h"

namespace mor::binding {

namespace {

Napi::Value devices(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "devices", [&] { return device_list(info.Env(), list_devices()); });
}

Napi::Value parameter_table(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "parameterTable", [&] {
    const ModelConfig config = model_config(Input(info[0], "config", ErrorCode::INVALID_CONFIG));
    return parameter_list(info.Env(), Parameters(config, dtype(Input(info[1], "dtype")), DType::float32));
  });
}

/// On a thread of its own, which has no model.
Napi::Value write_derived_files(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "writeDerivedFiles", [&]() -> Napi::Value {
    const std::string folder = Input(info[0], "folder").string();
    const std::vector<DerivedFile> files = derived_files(Input(info[1], "files"));
    const std::shared_ptr<ModelThread> thread = Environment::of(info.Env()).start_worker<ModelThread>();
    const std::shared_ptr<void> last(nullptr, [thread](void*) { thread->close(); });
    return post_call(
        *thread,
        {.object = info.This(), .disposed = thread->disposed(), .what = "writing " + folder, .signal = info[2]},
        [folder, files](ModelThread& on_thread) { write_derived(folder, files, on_thread.check()); });
  });
}

/// NativeConstants: what lib/native/engine.ts and lib/errors.ts repeat.
Napi::Object constants(Napi::Env env) {
  const Napi::Object kinds = Napi::Object::New(env);
  for (size_t kind = 0; kind < kEventKindNames.size(); ++kind)
    kinds.Set(kEventKindNames[kind], static_cast<double>(kind));
  const Napi::Array codes = Napi::Array::New(env);
  for (uint32_t code = 0; code <= static_cast<uint32_t>(ErrorCode::INTERNAL); ++code)
    codes.Set(code, error_code_name(static_cast<ErrorCode>(code)));
  const Napi::Object all = Napi::Object::New(env);
  all.Set("errorCodes", codes);
  all.Set("eventKind", kinds);
  all.Set("eventStride", static_cast<double>(kEventStride));
  all.Set("mostTopLogprobs", kMostTopLogprobs);
  return all;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  Environment::install(env);
  NativeModel::define(env);
  NativeTrainer::define(env);
  NativeEngine::define(env);
  NativeRanks::define(env);
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  exports.Set("parameterTable", Napi::Function::New<parameter_table>(env, "parameterTable"));
  exports.Set("createModel", Napi::Function::New<NativeModel::create>(env, "createModel"));
  exports.Set("writeDerivedFiles", Napi::Function::New<write_derived_files>(env, "writeDerivedFiles"));
  exports.Set("createTrainer", Napi::Function::New<NativeTrainer::create>(env, "createTrainer"));
  exports.Set("createEngine", Napi::Function::New<NativeEngine::create>(env, "createEngine"));
  exports.Set("launcher", Napi::Function::New<NativeRanks::launcher>(env, "launcher"));
  exports.Set("joinRanks", Napi::Function::New<NativeRanks::join>(env, "joinRanks"));
  exports.Set("constants", constants(env));
  return exports;
}

}  // namespace

NODE_API_MODULE(mixture_of_recursions, init)

}  // namespace mor::binding
