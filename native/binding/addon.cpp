// The addon's entry: one Environment for every Node environment that loads it, and the functions of lib/native.ts.
// Must not do anything that a wrap can do.
#include <napi.h>

#include "binding/convert.h"
#include "binding/engine_wrap.h"
#include "binding/environment.h"
#include "binding/model_wrap.h"
#include "binding/native_config.h"
#include "binding/native_results.h"
#include "binding/trainer_wrap.h"

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

Napi::Object init(Napi::Env env, Napi::Object exports) {
  Environment::install(env);
  ModelWrap::define(env);
  TrainerWrap::define(env);
  EngineWrap::define(env);
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  exports.Set("parameterTable", Napi::Function::New<parameter_table>(env, "parameterTable"));
  exports.Set("createModel", Napi::Function::New<ModelWrap::create>(env, "createModel"));
  exports.Set("createTrainer", Napi::Function::New<TrainerWrap::create>(env, "createTrainer"));
  exports.Set("createEngine", Napi::Function::New<EngineWrap::create>(env, "createEngine"));
  return exports;
}

}  // namespace

NODE_API_MODULE(mixture_of_recursions, init)

}  // namespace mor::binding
