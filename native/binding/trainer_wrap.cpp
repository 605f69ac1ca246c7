// NativeTrainer: arguments in, work on the model's worker, results out. Must not do arithmetic on tensors.
#include "binding/trainer_wrap.h"

#include <atomic>
#include <cstdint>
#include <utility>

#include "binding/drop_task.h"
#include "binding/model_wrap.h"
#include "binding/native_config.h"
#include "binding/native_results.h"
#include "binding/run_on_model.h"
#include "train/trainer.h"

namespace mor::binding {

/// A trainer beside its model on the worker.
class TrainerResident final : public Resident {
 public:
  /// On the worker's thread.
  void create(ModelCore& core, const TrainerOptions& options) {
    trainer_ = std::make_unique<Trainer>(core.model(), options);
    tensors_ = trainer_->state();
    refresh();
  }
  Trainer& trainer() { return *trainer_; }
  /// After anything that may have changed the step or the memory.
  void refresh() {
    steps_done_ = trainer_->steps_done();
    const MemoryUse use = trainer_->memory();
    bytes_ = use.total() - trainer_->model().memory_bytes();
  }
  void release() noexcept override { trainer_.reset(); }
  void add_memory(MemoryByPurpose& purposes) const override {
    const MemoryUse use = trainer_->memory();
    purposes["masterWeights"] += use.parameters - trainer_->model().memory_bytes();
    purposes["gradients"] += use.gradients;
    purposes["optimizer"] += use.optimizer;
    purposes["activations"] += use.activations;
  }

  // From any thread, once created.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  int64_t steps_done() const { return steps_done_; }
  size_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<Trainer> trainer_;
  std::vector<NamedTensor> tensors_;
  std::atomic<int64_t> steps_done_{0};
  std::atomic<size_t> bytes_{0};
};

namespace {

constexpr napi_type_tag kTrainerTag = {0x6d6f722d74726169, 0xb1d7e04f6a5c2938};

/// What a new NativeTrainer is made of.
struct TrainerParts {
  std::shared_ptr<ModelHost> host;
  std::shared_ptr<TrainerResident> resident;
  std::shared_ptr<Life> life;
};

struct TokenRows {
  std::vector<int32_t> tokens;
  int32_t micro_batches = 1, sequences, length;
};

/// tokens, sizes…: [micro_batches * sequences * (length + 1)].
void check_rows(const TokenRows& rows) {
  const double expected = static_cast<double>(rows.micro_batches) * rows.sequences * (rows.length + 1.0);
  MOR_CHECK(static_cast<double>(rows.tokens.size()) == expected, INVALID_ARGUMENT, "tokens has ", rows.tokens.size(),
            " ids, but ", rows.micro_batches, " x ", rows.sequences, " rows of ", rows.length, " + 1 ids are ",
            expected);
  MOR_CHECK(int64_t{2} * rows.sequences * rows.length <= INT32_MAX, INVALID_ARGUMENT, rows.sequences, " rows of ",
            rows.length, " tokens are too many for one micro-batch; at most ", INT32_MAX / 2,
            " tokens are allowed. Use more micro-batches");
}

std::string sizes(const TokenRows& rows) {
  return concat(rows.micro_batches, " x ", rows.sequences, " x ", rows.length, " tokens");
}

std::string state_json(int64_t step) {
  return concat("{\"step\":", step, "}");
}

/// The step of what state_json made. Throws CHECKPOINT_INVALID.
int64_t step_of_json(Napi::Env env, const Input& input) {
  const Napi::Object json = env.Global().Get("JSON").As<Napi::Object>();
  const std::string text = input.string();
  Napi::Value state;
  try {
    state = json.Get("parse").As<Napi::Function>().Call(json, {Napi::String::New(env, text)});
  } catch (const Napi::Error& error) {
    MOR_FAIL(CHECKPOINT_INVALID, "the trainer's state is not JSON: ", error.Message());
  }
  return Input(state, "state", ErrorCode::CHECKPOINT_INVALID).field("step").integer(0, (int64_t{1} << 53) - 1);
}

}  // namespace

void TrainerWrap::define(Napi::Env env) {
  const Napi::Function constructor =
      DefineClass(env, "NativeTrainer",
                  {InstanceMethod<&TrainerWrap::step>("step"), InstanceMethod<&TrainerWrap::evaluate>("evaluate"),
                   InstanceMethod<&TrainerWrap::state>("state"), InstanceMethod<&TrainerWrap::write>("write"),
                   InstanceMethod<&TrainerWrap::read>("read"), InstanceMethod<&TrainerWrap::dispose>("dispose")});
  Environment::of(env).trainer_class = Napi::Persistent(constructor);
}

Napi::Value TrainerWrap::create(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "createTrainer", [&]() -> Napi::Value {
    const std::shared_ptr<ModelHost>& host = ModelWrap::host_of(Input(info[0], "model"));
    const TrainerOptions options = trainer_options(Input(info[1], "options"));
    auto parts = std::make_shared<TrainerParts>(TrainerParts{host, std::make_shared<TrainerResident>(), nullptr});
    parts->life = std::make_shared<Life>("trainer", host->life());
    return run_on_model(
        info[0].As<Napi::Object>(), host->core(), parts->life,
        concat("optimizer state of 3 to 4 times ", host->core()->weight_bytes(), " bytes"),
        [resident = parts->resident, options](ModelCore& core) {
          resident->create(core, options);
          core.adopt(resident);
          return Nothing{};
        },
        [parts](Napi::Env env, const Nothing&) -> Napi::Value {
          Environment& environment = Environment::of(env);
          return environment.construct(environment.trainer_class, parts);
        });
  });
}

TrainerWrap::TrainerWrap(const Napi::CallbackInfo& info) : ObjectWrap(info), external_memory_(info.Env()) {
  throwing(info.Env(), "NativeTrainer", [&]() -> Napi::Value {
    const auto parts = Environment::of(info.Env()).take_from<TrainerParts>();
    info.This().As<Napi::Object>().TypeTag(&kTrainerTag);
    host_ = parts->host;
    resident_ = parts->resident;
    life_ = parts->life;
    external_memory_.set(resident_->bytes());
    return info.This();
  });
}

template <class Work, class ToJs>
Napi::Promise TrainerWrap::run(const Napi::CallbackInfo& info, std::string what, Work work, ToJs to_js) {
  return run_on_model(
      info.This().As<Napi::Object>(), host_->core(), life_, std::move(what),
      [resident = resident_, work = std::move(work)](ModelCore& core) {
        auto value = work(core, *resident);
        resident->refresh();
        return value;
      },
      std::move(to_js));
}

Napi::Value TrainerWrap::step(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "step", [&]() -> Napi::Value {
    TokenRows rows;
    rows.tokens = Input(info[0], "tokens").int32_array();
    rows.micro_batches = Input(info[1], "microBatches").int32(1, INT32_MAX);
    rows.sequences = Input(info[2], "batch").int32(1, INT32_MAX);
    rows.length = Input(info[3], "length").int32(1, INT32_MAX);
    check_rows(rows);
    const std::string what = "a step of " + sizes(rows);
    return run(
        info, what,
        [rows = std::move(rows)](ModelCore&, TrainerResident& resident) {
          return resident.trainer().step(rows.tokens.data(), rows.micro_batches, rows.sequences, rows.length);
        },
        [core = host_->core()](Napi::Env env, const StepResult& result) {
          return step_stats(env, result, core->config());
        });
  });
}

Napi::Value TrainerWrap::evaluate(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "evaluate", [&]() -> Napi::Value {
    TokenRows rows;
    rows.tokens = Input(info[0], "tokens").int32_array();
    rows.sequences = Input(info[1], "batch").int32(1, INT32_MAX);
    rows.length = Input(info[2], "length").int32(1, INT32_MAX);
    check_rows(rows);
    const Routing by = routing(Input(info[3], "routing"));
    const std::string what = "an evaluation of " + sizes(rows);
    return run(
        info, what,
        [rows = std::move(rows), by](ModelCore&, TrainerResident& resident) {
          return resident.trainer().evaluate(rows.tokens.data(), rows.sequences, rows.length, by);
        },
        [core = host_->core()](Napi::Env env, const StepResult& result) {
          return evaluate_stats(env, result, core->config());
        });
  });
}

Napi::Value TrainerWrap::state(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "state", [&]() -> Napi::Value {
    life_->check();
    const Napi::Object state = Napi::Object::New(info.Env());
    state.Set("names", tensor_list(info.Env(), resident_->tensors()));
    state.Set("step", static_cast<double>(resident_->steps_done()));
    state.Set("json", state_json(resident_->steps_done()));
    return state;
  });
}

Napi::Value TrainerWrap::write(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "write", [&]() -> Napi::Value {
    const std::string path = Input(info[0], "path").string();
    const std::vector<uint8_t> header = Input(info[1], "header").bytes();
    const std::vector<std::string> names = strings(Input(info[2], "names"));
    return run(
        info, "writing " + path,
        [path, header, names, life = life_](ModelCore& core, TrainerResident& resident) {
          std::vector<NamedTensor> table = resident.tensors();
          table.insert(table.end(), core.tensors().begin(), core.tensors().end());
          const std::vector<FileDType> all_float32(names.size(), FileDType::F32);
          write_tensors(core.model().ops(), path, header, tensors_named(table, names), all_float32,
                        give_up_when_disposed(core, life));
          return Nothing{};
        },
        to_undefined);
  });
}

Napi::Value TrainerWrap::read(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "read", [&]() -> Napi::Value {
    const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
    const int64_t step = step_of_json(info.Env(), Input(info[1], "json"));
    return run(
        info, "reading the optimizer state",
        [files, step, life = life_](ModelCore& core, TrainerResident& resident) {
          read_tensors(core.model().ops(), files, resident.tensors(), give_up_when_disposed(core, life));
          resident.trainer().set_steps_done(step);
          return Nothing{};
        },
        to_undefined);
  });
}

Napi::Value TrainerWrap::dispose(const Napi::CallbackInfo& info) {
  end();
  external_memory_.set(0);
  return info.Env().Undefined();
}

/// What waits is refused, what runs ends first, then the worker gives the memory back.
void TrainerWrap::end() {
  if (life_ == nullptr || !life_->end()) return;
  host_->core()->worker().post(std::make_unique<DropTask>(host_->core(), resident_));
}

}  // namespace mor::binding
