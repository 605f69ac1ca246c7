// NativeModel of lib/native/model.ts.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "binding/call.h"
#include "binding/convert.h"
#include "binding/external_memory.h"
#include "binding/object_wrap.h"

namespace mor::binding {

class ModelTrainer;
struct InferenceTask;

/// Its thread ends when it is disposed or collected. Trainers and engines keep their model from being collected.
class NativeModel final : public ObjectWrap<NativeModel> {
 public:
  static void define(Napi::Env env);
  /// createModel(config, options): Promise<NativeModel>.
  static Napi::Value create(const Napi::CallbackInfo& info);
  /// The model behind an argument. Throws INVALID_ARGUMENT if it is anything else, DISPOSED if it is no more.
  static NativeModel& of(const Input& input);

  explicit NativeModel(const Napi::CallbackInfo& info);
  ~NativeModel() override;

  const std::shared_ptr<ModelThread>& thread() const { return thread_; }
  /// The model's last trainer. Two would each write weights that the other has not seen.
  std::weak_ptr<ModelTrainer> trainer;
  /// Trainers that it is the teacher of.
  std::vector<std::weak_ptr<ModelTrainer>> pupils;

 private:
  Napi::Value parameters(const Napi::CallbackInfo& info);
  Napi::Value init(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value forward(const Napi::CallbackInfo& info);
  Napi::Value logprobs(const Napi::CallbackInfo& info);
  Napi::Value hidden_states(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  /// A promise for `result`, which gets the depths and has the arrays that the task fills.
  Napi::Value infer(const Napi::CallbackInfo& info, InferenceTask task, Napi::Object result, const Napi::Value& signal);
  CallOptions options(const Napi::CallbackInfo& info, std::string what, const Napi::Value& signal = {}) const;

  std::shared_ptr<ModelThread> thread_;
  ExternalMemory external_memory_;
};

}  // namespace mor::binding
