// The structs of the core as the plain objects of lib/native/.
#pragma once

#include <napi.h>

#include <vector>

#include "device/device.h"
#include "engine/engine.h"
#include "train/trainer.h"

namespace mor::binding {

/// DeviceInfo[].
Napi::Value device_list(Napi::Env env, const std::vector<DeviceInfo>& devices);
/// What NativeTrainer.tensors() returns. It follows from model and options: the trainer may still have to be created.
Napi::Value trainer_tensor_list(Napi::Env env, const Model& model, const TrainerOptions& options);
/// NativeParameter[].
Napi::Value parameter_list(Napi::Env env, const Parameters& parameters);
/// NativeStepStats.
Napi::Object step_stats(Napi::Env env, const StepResult& result);
/// NativeEvaluateStats.
Napi::Object evaluate_stats(Napi::Env env, const StepResult& result);
/// EngineStats.
Napi::Value engine_stats(Napi::Env env, const EngineStats& stats);

}  // namespace mor::binding
