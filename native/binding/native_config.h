// The plain objects of lib/native/ as the structs of the core. Only types are checked here, and ranges beyond which a
// value does not fit its C++ type: lib/ has checked what the values mean.
#pragma once

#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/model_thread.h"
#include "checkpoint/derived_files.h"
#include "checkpoint/trainer_checkpoint.h"
#include "distributed/join_options.h"
#include "engine/engine.h"
#include "model/config.h"
#include "model/pass.h"
#include "train/trainer.h"

namespace mor::binding {

/// NativeConfig. Throws INVALID_CONFIG.
ModelConfig model_config(const Input& input);
/// Of weights: 'bfloat16' or 'float32'.
DType dtype(const Input& input);
ModelOptions model_options(const Input& input);
/// NativeForwardOptions.
PassOptions forward_options(const Input& input);
Routing routing(const Input& input);
/// NativeJoinOptions.
JoinOptions join_options(const Input& input);
/// NativeTrainerOptions, without the model and the ranks.
TrainerOptions trainer_options(const Input& input);
EngineOptions engine_options(const Input& input);
/// NativeGenerateParams.
GenerateParams generate_params(const Input& input);
/// NativeReadFile[].
std::vector<CheckpointFile> checkpoint_files(const Input& input);
/// NativeSavedFile[].
std::vector<SavedFile> saved_files(const Input& input);
/// NativeDerivedFile[].
std::vector<DerivedFile> derived_files(const Input& input);

}  // namespace mor::binding
