// NativeModel: arguments in, calls on the model's thread, results out.
#include "binding/native_model.h"

#include <cstdint>
#include <numeric>
#include <set>
#include <utility>

#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_results.h"
#include "model/model_passes.h"
#include "train/trainer.h"

namespace mor::binding {

/// A batch, and what is wanted of it.
struct InferenceTask {
  std::vector<int32_t> tokens;  ///< [sequences * length]
  int32_t sequences, length;
  PassOptions options;
  InferenceOutputs outputs;  ///< memory of JavaScript
};

namespace {

constexpr napi_type_tag kModelTag = {0x6d6f722d6d6f6465, 0x8f3c1b5ea2d94c07};

void run_inference(ModelThread& thread, const InferenceTask& task) {
  check_tokens(thread.config(), task.tokens.data(), task.sequences, task.length, task.length);
  Ops& ops = thread.model().ops();
  const auto count = static_cast<int64_t>(task.tokens.size());
  thread.tokens().reset();
  int32_t* tokens = thread.tokens().array<int32_t>(count);
  ops.copy_to_device(tokens, task.tokens.data(), task.tokens.size() * sizeof(int32_t));
  const Batch batch{task.sequences, task.length, tokens, nullptr};
  inference_pass(thread.model(), thread.activations(), batch, task.options, task.outputs);
}

/// tokens, batch, length.
InferenceTask inference_task(const Napi::CallbackInfo& info) {
  InferenceTask task;
  task.tokens = Input(info[0], "tokens").int32_array();
  task.sequences = Input(info[1], "batch").int32(1, INT32_MAX);
  task.length = Input(info[2], "length").int32(1, INT32_MAX);
  const int64_t count = int64_t{task.sequences} * task.length;
  MOR_CHECK(static_cast<int64_t>(task.tokens.size()) == count && count <= INT32_MAX, INVALID_ARGUMENT, "tokens has ",
            task.tokens.size(), " ids, but ", task.sequences, " rows of ", task.length, " are ", count, " (at most ",
            INT32_MAX, ")");
  return task;
}

/// The rows of the batch at these positions of every sequence; undefined: all rows.
std::vector<int32_t> rows_at(const Input& positions, const InferenceTask& task) {
  std::vector<int32_t> chosen;
  if (positions.undefined()) {
    chosen.resize(static_cast<size_t>(task.length));
    std::iota(chosen.begin(), chosen.end(), 0);
  } else {
    chosen = positions.int32_array();
  }
  std::vector<int32_t> rows;
  rows.reserve(chosen.size() * static_cast<size_t>(task.sequences));
  for (int32_t s = 0; s < task.sequences; ++s)
    for (const int32_t position : chosen) {
      MOR_CHECK(position >= 0 && position < task.length, INVALID_ARGUMENT, "positions has ", position,
                "; the rows have positions 0 to ", task.length - 1);
      rows.push_back(s * task.length + position);
    }
  return rows;
}

/// Sets result[key] to a Float32Array of [rows, width]; returns its memory.
float* new_output(Napi::Object& result, const char* key, int64_t rows, int64_t width) {
  constexpr int64_t kMostElements = int64_t{1} << 30;  // 4 GiB, the largest array of Node 20
  MOR_CHECK(rows <= kMostElements / width, INVALID_ARGUMENT, key, " of ", rows, " x ", width, " are ",
            static_cast<double>(rows) * static_cast<double>(width), " numbers; at most ", kMostElements,
            " fit one array. Split the batch");
  auto array =
      new_typed_array(result.Env(), "Float32Array", static_cast<size_t>(rows * width)).As<Napi::Float32Array>();
  result.Set(key, array);
  return array.Data();
}

}  // namespace

void NativeModel::define(Napi::Env env) {
  Environment::of(env).model_class = Napi::Persistent(
      DefineClass(env, "NativeModel",
                  {throwing_method<&NativeModel::parameters>("parameters"), promise_method<&NativeModel::init>("init"),
                   promise_method<&NativeModel::read>("read"), promise_method<&NativeModel::save>("save"),
                   promise_method<&NativeModel::forward>("forward"), promise_method<&NativeModel::logprobs>("logprobs"),
                   promise_method<&NativeModel::hidden_states>("hiddenStates"),
                   throwing_method<&NativeModel::memory>("memory"), promise_method<&NativeModel::dispose>("dispose")}));
}

Napi::Value NativeModel::create(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "createModel", [&]() -> Napi::Value {
    const ModelConfig config = model_config(Input(info[0], "config", ErrorCode::INVALID_CONFIG));
    const ModelOptions options = model_options(Input(info[1], "options"));
    const std::shared_ptr<ModelThread> thread = Environment::of(info.Env()).start_worker<ModelThread>();
    return post_call(
        *thread,
        {.object = info.This(),
         .disposed = thread->disposed(),
         .what = concat("a model of ", config.num_hidden_layers, " layers, hidden size ", config.hidden_size,
                        ", vocabulary ", config.vocab_size)},
        [config, options](ModelThread& on_thread) {
          try {
            on_thread.create(config, options);
          } catch (...) {
            on_thread.close();
            throw;
          }
          return true;
        },
        [thread](Napi::Env env, bool) -> Napi::Value {
          Environment& environment = Environment::of(env);
          return environment.construct(environment.model_class, thread);
        });
  });
}

NativeModel::NativeModel(const Napi::CallbackInfo& info) : ObjectWrap(info), external_memory_(info.Env()) {
  throwing(info.Env(), "NativeModel", [&]() -> Napi::Value {
    thread_ = Environment::of(info.Env()).take_from<ModelThread>();
    info.This().As<Napi::Object>().TypeTag(&kModelTag);
    external_memory_.set(thread_->memory().at("parameters"));
    return info.This();
  });
}

NativeModel::~NativeModel() {
  if (thread_ == nullptr) return;
  thread_->disposed()->set();
  thread_->close();
}

NativeModel& NativeModel::of(const Input& input) {
  if (!input.value().IsObject() || !input.value().As<Napi::Object>().CheckTypeTag(&kModelTag))
    input.fail("a model of this addon");
  NativeModel& model = *Unwrap(input.value().As<Napi::Object>());
  model.thread_->disposed()->check();
  return model;
}

CallOptions NativeModel::options(const Napi::CallbackInfo& info, std::string what, const Napi::Value& signal) const {
  return {.object = info.This(), .disposed = thread_->disposed(), .what = std::move(what), .signal = signal};
}

Napi::Value NativeModel::parameters(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  return parameter_list(info.Env(), thread_->model().parameters());
}

Napi::Value NativeModel::init(const Napi::CallbackInfo& info) {
  const auto seed = static_cast<uint64_t>(Input(info[0], "seed").natural());
  CallOptions call = options(info, "initialising the weights", info[1]);
  return post_call(*thread_, call, [seed](ModelThread& thread) {
    thread.model().init(seed, thread.threads());
    thread.model().ops().synchronize();  // the threads of its pupils may read the weights
  });
}

Napi::Value NativeModel::read(const Napi::CallbackInfo& info) {
  const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
  CallOptions call = options(info, "reading weights", info[1]);
  return post_call(*thread_, call, [files](ModelThread& thread) {
    thread.model().weights_changed();
    read_tensors(thread.model().ops(), files, weights_table(thread.model()), thread.check());
    thread.model().ops().synchronize();  // the threads of its pupils may read the weights
  });
}

Napi::Value NativeModel::save(const Napi::CallbackInfo& info) {
  const std::string folder = Input(info[0], "folder").string();
  const std::vector<SavedFile> files = saved_files(Input(info[1], "files"));
  return post_call(*thread_, options(info, "saving " + folder), [folder, files](ModelThread& thread) {
    save_files(thread.model().ops(), folder, files, weights_table(thread.model()), 0, Ranks(nullptr), thread.check());
  });
}

Napi::Value NativeModel::forward(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  InferenceTask task = inference_task(info);
  const Input options(info[3], "options");
  task.options = forward_options(options);
  task.outputs.logits_rows = rows_at(options.field("positions"), task);
  Napi::Object result = Napi::Object::New(info.Env());
  const auto rows = static_cast<int64_t>(task.outputs.logits_rows.size());
  task.outputs.logits = new_output(result, "logits", rows, thread_->config().vocab_size);
  return infer(info, std::move(task), result, info[4]);
}

Napi::Value NativeModel::logprobs(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  InferenceTask task = inference_task(info);
  const std::vector<int32_t> targets = Input(info[3], "targets").int32_array();
  task.options = forward_options(Input(info[4], "options"));
  MOR_CHECK(targets.size() == task.tokens.size(), INVALID_ARGUMENT, "targets has ", targets.size(),
            " ids, but tokens has ", task.tokens.size());
  const int32_t vocab = thread_->config().vocab_size;
  for (size_t i = 0; i < targets.size(); ++i) {
    MOR_CHECK(targets[i] >= -1 && targets[i] < vocab, TOKEN_OUT_OF_RANGE, "target ", targets[i], " at index ", i,
              "; the vocabulary has ids 0 to ", vocab - 1, ", and -1 stands for none");
    if (targets[i] < 0) continue;
    task.outputs.target_rows.push_back(static_cast<int32_t>(i));
    task.outputs.targets.push_back(targets[i]);
  }
  Napi::Object result = Napi::Object::New(info.Env());
  task.outputs.logprobs = new_output(result, "logprobs", static_cast<int64_t>(task.outputs.targets.size()), 1);
  return infer(info, std::move(task), result, info[5]);
}

Napi::Value NativeModel::hidden_states(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  InferenceTask task = inference_task(info);
  task.outputs.layers = Input(info[3], "layers").int32_array();
  task.options = forward_options(Input(info[4], "options"));
  const int32_t last = thread_->config().num_hidden_layers;
  std::set<int32_t> distinct;
  for (const int32_t layer : task.outputs.layers)
    MOR_CHECK(layer >= 0 && layer <= last && distinct.insert(layer).second, INVALID_ARGUMENT, "layers has ", layer,
              "; they must be distinct and from 0 to ", last);
  Napi::Object result = Napi::Object::New(info.Env());
  const auto rows = static_cast<int64_t>(task.outputs.layers.size() * task.tokens.size());
  task.outputs.hidden_states = new_output(result, "hiddenStates", rows, thread_->config().hidden_size);
  return infer(info, std::move(task), result, info[5]);
}

Napi::Value NativeModel::infer(const Napi::CallbackInfo& info, InferenceTask task, Napi::Object result,
                               const Napi::Value& signal) {
  auto depths = new_typed_array(info.Env(), "Uint8Array", task.tokens.size()).As<Napi::Uint8Array>();
  task.outputs.depths = depths.Data();
  result.Set("depths", depths);
  auto kept = std::make_shared<Napi::ObjectReference>(Napi::Persistent(result));
  CallOptions call = options(info, concat("a forward pass of ", task.sequences, " x ", task.length, " tokens"), signal);
  return post_call(
      *thread_, call,
      [task = std::move(task)](ModelThread& thread) {
        run_inference(thread, task);
        return true;
      },
      [kept](Napi::Env, bool) -> Napi::Value { return kept->Value(); });
}

Napi::Value NativeModel::memory(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  const Napi::Object object = Napi::Object::New(info.Env());
  for (const auto& [purpose, bytes] : thread_->memory()) object.Set(purpose, static_cast<double>(bytes));
  return object;
}

Napi::Value NativeModel::dispose(const Napi::CallbackInfo& info) {
  external_memory_.set(0);
  if (!thread_->disposed()->set()) return resolved(info.Env());
  return post_call(*thread_,
                   {.object = info.This(), .disposed = nullptr, .what = "disposing the model", .turn = Turn::last},
                   [](ModelThread& thread) { thread.release(); });
}

}  // namespace mor::binding
