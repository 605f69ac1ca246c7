// NativeModel: arguments in, calls on the model's thread, results out.
#include "binding/native_model.h"

#include <cstdint>
#include <utility>

#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_results.h"
#include "model/model_passes.h"
#include "train/trainer.h"

namespace mor::binding {

namespace {

constexpr napi_type_tag kModelTag = {0x6d6f722d6d6f6465, 0x8f3c1b5ea2d94c07};

struct ForwardTask {
  std::vector<int32_t> tokens;  ///< [sequences * length]
  int32_t sequences, length;
  PassOptions options;
  float* logits;    ///< [sequences * length * vocab], memory of JavaScript
  uint8_t* depths;  ///< [sequences * length]
};

void run_forward(ModelThread& thread, const ForwardTask& task) {
  check_tokens(thread.config(), task.tokens.data(), task.sequences, task.length, task.length);
  Ops& ops = thread.model().ops();
  const auto count = static_cast<int64_t>(task.tokens.size());
  thread.tokens().reset();
  int32_t* tokens = thread.tokens().array<int32_t>(count);
  ops.copy_to_device(tokens, task.tokens.data(), task.tokens.size() * sizeof(int32_t));
  const Batch batch{task.sequences, task.length, tokens, nullptr};
  logits_pass(thread.model(), thread.activations(), batch, task.options, task.logits, task.depths);
}

}  // namespace

void NativeModel::define(Napi::Env env) {
  Environment::of(env).model_class = Napi::Persistent(
      DefineClass(env, "NativeModel",
                  {throwing_method<&NativeModel::parameters>("parameters"), promise_method<&NativeModel::init>("init"),
                   promise_method<&NativeModel::read>("read"), promise_method<&NativeModel::save>("save"),
                   promise_method<&NativeModel::forward>("forward"), throwing_method<&NativeModel::memory>("memory"),
                   promise_method<&NativeModel::dispose>("dispose")}));
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
  return post_call(*thread_, call, [seed](ModelThread& thread) { thread.model().init(seed); });
}

Napi::Value NativeModel::read(const Napi::CallbackInfo& info) {
  const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
  CallOptions call = options(info, "reading weights", info[1]);
  return post_call(*thread_, call, [files](ModelThread& thread) {
    thread.model().weights_changed();
    read_tensors(thread.model().ops(), files, thread.model().checkpoint_tensors(), thread.check());
  });
}

Napi::Value NativeModel::save(const Napi::CallbackInfo& info) {
  const std::string folder = Input(info[0], "folder").string();
  const std::vector<SavedFile> files = saved_files(Input(info[1], "files"));
  return post_call(*thread_, options(info, "saving " + folder), [folder, files](ModelThread& thread) {
    save_files(thread.model().ops(), folder, files, thread.model().checkpoint_tensors(), 0, thread.check());
  });
}

Napi::Value NativeModel::forward(const Napi::CallbackInfo& info) {
  thread_->disposed()->check();
  ForwardTask task;
  task.tokens = Input(info[0], "tokens").int32_array();
  task.sequences = Input(info[1], "batch").int32(1, INT32_MAX);
  task.length = Input(info[2], "length").int32(1, INT32_MAX);
  task.options = forward_options(Input(info[3], "options"));
  const int64_t count = int64_t{task.sequences} * task.length;
  MOR_CHECK(static_cast<int64_t>(task.tokens.size()) == count && count <= INT32_MAX, INVALID_ARGUMENT, "tokens has ",
            task.tokens.size(), " ids, but ", task.sequences, " rows of ", task.length, " are ", count, " (at most ",
            INT32_MAX, ")");
  const int64_t vocab = thread_->config().vocab_size;
  constexpr int64_t kMostElements = int64_t{1} << 30;  // 4 GiB, the largest array of Node 20
  MOR_CHECK(count <= kMostElements / vocab, INVALID_ARGUMENT, "logits of ", count, " tokens over a vocabulary of ",
            vocab, " are ", static_cast<double>(count) * static_cast<double>(vocab), " numbers; at most ",
            kMostElements, " fit one array. Split the batch");
  auto logits =
      new_typed_array(info.Env(), "Float32Array", static_cast<size_t>(count * vocab)).As<Napi::Float32Array>();
  auto depths = new_typed_array(info.Env(), "Uint8Array", static_cast<size_t>(count)).As<Napi::Uint8Array>();
  task.logits = logits.Data();
  task.depths = depths.Data();
  auto result = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Napi::Object::New(info.Env())));
  result->Set("logits", logits);
  result->Set("depths", depths);
  CallOptions call =
      options(info, concat("a forward pass of ", task.sequences, " x ", task.length, " tokens"), info[4]);
  return post_call(
      *thread_, call,
      [task = std::move(task)](ModelThread& thread) {
        run_forward(thread, task);
        return true;
      },
      [result](Napi::Env, bool) -> Napi::Value { return result->Value(); });
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
