// NativeTrainer: arguments in, calls on the model's thread, results out.
#include "binding/native_trainer.h"

#include <cstdint>
#include <utility>

#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_model.h"
#include "binding/native_results.h"

namespace mor::binding {

namespace {

/// What the constructor needs.
struct TrainerParts {
  std::shared_ptr<ModelThread> thread;
  std::shared_ptr<ModelTrainer> trainer;
  Napi::Value model;
};

struct TokenRows {
  std::vector<int32_t> tokens;  ///< [micro_batches * sequences * (length + 1)]
  int32_t micro_batches = 1, sequences, length;
};

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

}  // namespace

void NativeTrainer::define(Napi::Env env) {
  Environment::of(env).trainer_class = Napi::Persistent(DefineClass(
      env, "NativeTrainer",
      {promise_method<&NativeTrainer::step>("step"), promise_method<&NativeTrainer::evaluate>("evaluate"),
       throwing_method<&NativeTrainer::tensors>("tensors"), throwing_method<&NativeTrainer::steps_done>("stepsDone"),
       promise_method<&NativeTrainer::save>("save"), promise_method<&NativeTrainer::read>("read"),
       promise_method<&NativeTrainer::dispose>("dispose")}));
}

Napi::Value NativeTrainer::create(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "createTrainer", [&]() -> Napi::Value {
    NativeModel& model = NativeModel::of(Input(info[0], "model"));
    const TrainerOptions options = trainer_options(Input(info[1], "options"));
    const std::shared_ptr<ModelTrainer> other = model.trainer.lock();
    MOR_CHECK(other == nullptr || !other->in_use(), INVALID_ARGUMENT,
              "the model has a trainer, and a second one would undo its steps; dispose it before making another");
    const std::shared_ptr<ModelThread>& thread = model.thread();
    const auto trainer = std::make_shared<ModelTrainer>(thread->disposed(), options);
    const auto create = [&on_thread = *thread, trainer] {
      if (trainer->disposed->is_set()) return;
      trainer->create(on_thread.model());
      on_thread.add(trainer);
      on_thread.refresh_memory();
    };
    MOR_CHECK(thread->worker().post(task_of(create)), DISPOSED, "the process is exiting");
    model.trainer = trainer;
    Environment& environment = Environment::of(info.Env());
    return environment.construct(environment.trainer_class,
                                 std::make_shared<TrainerParts>(TrainerParts{thread, trainer, info[0]}));
  });
}

NativeTrainer::NativeTrainer(const Napi::CallbackInfo& info) : ObjectWrap(info), external_memory_(info.Env()) {
  throwing(info.Env(), "NativeTrainer", [&]() -> Napi::Value {
    const auto parts = Environment::of(info.Env()).take_from<TrainerParts>();
    keep_alive(info.This(), parts->model);
    thread_ = parts->thread;
    trainer_ = parts->trainer;
    return info.This();
  });
}

NativeTrainer::~NativeTrainer() {
  if (trainer_ != nullptr && trainer_->disposed->set())
    thread_->worker().post(task_of([&thread = *thread_, trainer = trainer_] { thread.remove(*trainer); }));
}

CallOptions NativeTrainer::options(const Napi::CallbackInfo& info, std::string what, const Napi::Value& signal) const {
  return {.object = info.This(), .disposed = trainer_->disposed, .what = std::move(what), .signal = signal};
}

template <class Work, class ToJs>
Napi::Promise NativeTrainer::run(const CallOptions& options, Work work, ToJs to_js) {
  return post_call(
      *thread_, options,
      [trainer = trainer_, work = std::move(work)](ModelThread& thread) {
        auto value = work(thread, *trainer);
        trainer->refresh();
        return value;
      },
      [this, to_js = std::move(to_js)](Napi::Env env, const auto& value) {
        external_memory_.set(trainer_->bytes());
        return to_js(env, value);
      });
}

Napi::Value NativeTrainer::step(const Napi::CallbackInfo& info) {
  TokenRows rows;
  rows.tokens = Input(info[0], "tokens").int32_array();
  rows.micro_batches = Input(info[1], "microBatches").int32(1, INT32_MAX);
  rows.sequences = Input(info[2], "batch").int32(1, INT32_MAX);
  rows.length = Input(info[3], "length").int32(1, INT32_MAX);
  check_rows(rows);
  CallOptions call = options(info, "a step of " + sizes(rows), info[4]);
  call.abort = Abort::ignored;
  return run(
      call,
      [rows = std::move(rows)](ModelThread&, ModelTrainer& trainer) {
        return trainer.trainer().step(rows.tokens.data(), rows.micro_batches, rows.sequences, rows.length);
      },
      step_stats);
}

Napi::Value NativeTrainer::evaluate(const Napi::CallbackInfo& info) {
  TokenRows rows;
  rows.tokens = Input(info[0], "tokens").int32_array();
  rows.sequences = Input(info[1], "batch").int32(1, INT32_MAX);
  rows.length = Input(info[2], "length").int32(1, INT32_MAX);
  check_rows(rows);
  const Routing by = routing(Input(info[3], "routing"));
  CallOptions call = options(info, "an evaluation of " + sizes(rows), info[4]);
  return run(
      call,
      [rows = std::move(rows), by](ModelThread&, ModelTrainer& trainer) {
        return trainer.trainer().evaluate(rows.tokens.data(), rows.sequences, rows.length, by);
      },
      evaluate_stats);
}

Napi::Value NativeTrainer::tensors(const Napi::CallbackInfo& info) {
  trainer_->disposed->check();
  return trainer_tensor_list(info.Env(), thread_->model());
}

Napi::Value NativeTrainer::steps_done(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(trainer_->steps_done()));
}

Napi::Value NativeTrainer::save(const Napi::CallbackInfo& info) {
  const std::string folder = Input(info[0], "folder").string();
  const std::vector<SavedFile> files = saved_files(Input(info[1], "files"));
  return run(
      options(info, "saving " + folder),
      [folder, files](ModelThread& thread, ModelTrainer& trainer) {
        const Trainer& from = trainer.trainer();
        std::vector<NamedTensor> table = thread.model().checkpoint_tensors();
        table.insert(table.end(), from.state().begin(), from.state().end());
        save_files(thread.model().ops(), folder, files, table, from.steps_done(), thread.check());
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

Napi::Value NativeTrainer::read(const Napi::CallbackInfo& info) {
  const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
  const int64_t steps_done = Input(info[1], "stepsDone").natural();
  return run(
      options(info, "reading the optimizer state"),
      [files, steps_done](ModelThread& thread, ModelTrainer& trainer) {
        Trainer& into = trainer.trainer();
        read_tensors(thread.model().ops(), files, into.state(), thread.check());
        into.set_steps_done(steps_done);
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

Napi::Value NativeTrainer::dispose(const Napi::CallbackInfo& info) {
  external_memory_.set(0);
  if (!trainer_->disposed->set() || thread_->disposed()->is_set()) return resolved(info.Env());
  return post_call(*thread_, {.object = info.This(), .disposed = nullptr, .what = "disposing the trainer"},
                   [trainer = trainer_](ModelThread& thread) { thread.remove(*trainer); });
}

}  // namespace mor::binding
