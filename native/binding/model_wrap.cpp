// NativeModel: arguments in, work on the model's worker, results out. Must not do arithmetic on tensors.
#include "binding/model_wrap.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "binding/abort_signal.h"
#include "binding/native_config.h"
#include "binding/native_results.h"
#include "binding/run_on_model.h"
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

Nothing run_forward(ModelCore& core, const ForwardTask& task) {
  const ModelConfig& config = core.config();
  check_tokens(config, task.tokens.data(), task.sequences, task.length, task.length);
  Ops& ops = core.model().ops();
  const auto count = static_cast<int64_t>(task.tokens.size());
  core.tokens().reset();
  int32_t* tokens = allocate_integers(core.tokens(), count);
  ops.copy_to_device(tokens, task.tokens.data(), task.tokens.size() * sizeof(int32_t));
  const Batch batch{task.sequences, task.length, tokens, nullptr};
  logits_pass(core.model(), core.activations(), batch, task.options, task.logits, task.depths);
  // Without a block that recurs as a whole every token runs all recursions.
  if (config.body_recursions() == 0) std::fill_n(task.depths, count, static_cast<uint8_t>(config.num_recursions));
  return {};
}

}  // namespace

void ModelWrap::define(Napi::Env env) {
  const Napi::Function constructor =
      DefineClass(env, "NativeModel",
                  {InstanceMethod<&ModelWrap::parameters>("parameters"), InstanceMethod<&ModelWrap::init>("init"),
                   InstanceMethod<&ModelWrap::read>("read"), InstanceMethod<&ModelWrap::write>("write"),
                   InstanceMethod<&ModelWrap::forward>("forward"), InstanceMethod<&ModelWrap::memory>("memory"),
                   InstanceMethod<&ModelWrap::dispose>("dispose")});
  Environment::of(env).model_class = Napi::Persistent(constructor);
}

Napi::Value ModelWrap::create(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "createModel", [&]() -> Napi::Value {
    const ModelConfig config = model_config(Input(info[0], "config", ErrorCode::INVALID_CONFIG));
    const ModelOptions options = model_options(Input(info[1], "options"));
    auto host = std::make_shared<ModelHost>(Environment::of(info.Env()).start_worker());
    return run_on(
        host->core()->worker(), info.Env(), host->life(),
        concat("a model of ", config.num_hidden_layers, " layers, hidden size ", config.hidden_size, ", vocabulary ",
               config.vocab_size),
        [core = host->core(), config, options] {
          core->create(config, options.device, options.dtype, options.threads);
          return Nothing{};
        },
        [host](Napi::Env env, const Nothing&) -> Napi::Value {
          Environment& environment = Environment::of(env);
          return environment.construct(environment.model_class, host);
        });
  });
}

ModelWrap::ModelWrap(const Napi::CallbackInfo& info) : ObjectWrap(info), external_memory_(info.Env()) {
  throwing(info.Env(), "NativeModel", [&]() -> Napi::Value {
    host_ = Environment::of(info.Env()).take_from<ModelHost>();
    info.This().As<Napi::Object>().TypeTag(&kModelTag);
    external_memory_.set(host_->core()->weight_bytes());
    return info.This();
  });
}

const std::shared_ptr<ModelHost>& ModelWrap::host_of(const Input& input) {
  if (!input.value().IsObject() || !input.value().As<Napi::Object>().CheckTypeTag(&kModelTag))
    input.fail("a model of this addon");
  const std::shared_ptr<ModelHost>& host = Unwrap(input.value().As<Napi::Object>())->host_;
  host->life()->check();
  return host;
}

template <class Work, class ToJs>
Napi::Promise ModelWrap::run(const Napi::CallbackInfo& info, std::string what, Work work, ToJs to_js) {
  return run_on_model(info.This().As<Napi::Object>(), host_->core(), host_->life(), std::move(what), std::move(work),
                      std::move(to_js));
}

Napi::Value ModelWrap::parameters(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "parameters", [&]() -> Napi::Value {
    host_->life()->check();
    return tensor_list(info.Env(), host_->core()->tensors());
  });
}

Napi::Value ModelWrap::init(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "init", [&]() -> Napi::Value {
    const auto seed = static_cast<uint64_t>(Input(info[0], "seed").integer(0, (int64_t{1} << 53) - 1));
    return run(
        info, "initialising the weights",
        [seed](ModelCore& core) {
          core.model().init(seed);
          return Nothing{};
        },
        to_undefined);
  });
}

Napi::Value ModelWrap::read(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "read", [&]() -> Napi::Value {
    const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
    const auto listener = std::make_shared<AbortListener>(Input(info[1], "signal"), "reading weights");
    return run(
        info, "reading weights",
        [files, listener = listener.get(), life = host_->life()](ModelCore& core) {
          const CancelCheck disposed = give_up_when_disposed(core, life);
          core.model().weights_changed();
          read_tensors(core.model().ops(), files, core.tensors(), [&] {
            disposed();
            listener->check();
          });
          return Nothing{};
        },
        [listener](Napi::Env env, const Nothing& nothing) { return to_undefined(env, nothing); });
  });
}

Napi::Value ModelWrap::write(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "write", [&]() -> Napi::Value {
    const std::string path = Input(info[0], "path").string();
    const std::vector<uint8_t> header = Input(info[1], "header").bytes();
    const std::vector<std::string> names = strings(Input(info[2], "names"));
    const std::vector<FileDType> dtypes = written_dtypes(Input(info[3], "dtypes"));
    return run(
        info, "writing " + path,
        [path, header, names, dtypes, life = host_->life()](ModelCore& core) {
          write_tensors(core.model().ops(), path, header, tensors_named(core.tensors(), names), dtypes,
                        give_up_when_disposed(core, life));
          return Nothing{};
        },
        to_undefined);
  });
}

Napi::Value ModelWrap::forward(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "forward", [&]() -> Napi::Value {
    host_->life()->check();
    ForwardTask task;
    task.tokens = Input(info[0], "tokens").int32_array();
    task.sequences = Input(info[1], "batch").int32(1, INT32_MAX);
    task.length = Input(info[2], "length").int32(1, INT32_MAX);
    task.options = forward_options(Input(info[3], "options"));
    const int64_t count = int64_t{task.sequences} * task.length;
    MOR_CHECK(static_cast<int64_t>(task.tokens.size()) == count && count <= INT32_MAX, INVALID_ARGUMENT, "tokens has ",
              task.tokens.size(), " ids, but ", task.sequences, " rows of ", task.length, " are ", count, " (at most ",
              INT32_MAX, ")");
    const int64_t vocab = host_->core()->config().vocab_size;
    constexpr int64_t kMostElements = int64_t{1} << 30;  // 4 GiB, the largest array of Node 20
    MOR_CHECK(count <= kMostElements / vocab, INVALID_ARGUMENT, "logits of ", count, " tokens over a vocabulary of ",
              vocab, " are ", static_cast<double>(count) * static_cast<double>(vocab), " numbers; at most ",
              kMostElements, " fit one array. Split the batch");
    auto logits =
        new_typed_array(info.Env(), "Float32Array", static_cast<size_t>(count * vocab)).As<Napi::Float32Array>();
    auto depths = new_typed_array(info.Env(), "Uint8Array", static_cast<size_t>(count)).As<Napi::Uint8Array>();
    task.logits = logits.Data();
    task.depths = depths.Data();
    const std::string what = concat("a forward pass of ", task.sequences, " x ", task.length, " tokens");
    auto result = std::make_shared<Napi::ObjectReference>(Napi::Persistent(Napi::Object::New(info.Env())));
    result->Set("logits", logits);
    result->Set("depths", depths);
    return run(
        info, what, [task = std::move(task)](ModelCore& core) { return run_forward(core, task); },
        [result](Napi::Env, const Nothing&) -> Napi::Value { return result->Value(); });
  });
}

Napi::Value ModelWrap::memory(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "memory", [&]() -> Napi::Value {
    host_->life()->check();
    const Napi::Object object = Napi::Object::New(info.Env());
    for (const auto& [purpose, bytes] : host_->core()->memory()) object.Set(purpose, static_cast<double>(bytes));
    return object;
  });
}

Napi::Value ModelWrap::dispose(const Napi::CallbackInfo& info) {
  host_->dispose();
  external_memory_.set(0);
  return info.Env().Undefined();
}

}  // namespace mor::binding
