// NativeTrainer: arguments in, calls on the model's thread, results out.
#include "binding/native_trainer.h"

#include <cstdint>
#include <utility>

#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_model.h"
#include "binding/native_ranks.h"
#include "binding/native_results.h"

namespace mor::binding {

namespace {

/// What the constructor needs.
struct TrainerParts {
  std::shared_ptr<ModelThread> thread;
  std::shared_ptr<ModelTrainer> trainer;
  Napi::Value model, ranks;  ///< ranks: null where it trains alone
};

/// TokenRows that own their memory.
struct Rows {
  std::vector<int32_t> tokens;
  std::string counts;  ///< empty: every target counts
  std::vector<BatchShape> micro_batches;
  TokenRows view() const {
    return {tokens.data(), counts.empty() ? nullptr : reinterpret_cast<const uint8_t*>(counts.data()), micro_batches};
  }
};

/// Of the arguments tokens, counts and shapes.
Rows rows_of(const Napi::CallbackInfo& info) {
  Rows rows;
  rows.tokens = Input(info[0], "tokens").int32_array();
  const Input counts(info[1], "counts");
  if (!counts.null()) rows.counts = counts.bytes();
  const Input shapes(info[2], "shapes");
  const std::vector<int32_t> extents = shapes.int32_array();
  if (extents.empty() || extents.size() % 2 != 0) shapes.fail("pairs of a number of rows and their length");
  double expected = 0;
  for (size_t i = 0; i < extents.size(); i += 2) {
    const BatchShape shape{extents[i], extents[i + 1]};
    if (shape.sequences < 1 || shape.length < 1) shapes.fail("pairs of numbers of at least 1");
    MOR_CHECK(int64_t{2} * shape.sequences * shape.length <= INT32_MAX, INVALID_ARGUMENT, shape.sequences, " rows of ",
              shape.length, " tokens are too many for one micro-batch; at most ", INT32_MAX / 2,
              " tokens are allowed. Use more micro-batches");
    rows.micro_batches.push_back(shape);
    expected += shape.sequences * (shape.length + 1.0);
  }
  MOR_CHECK(static_cast<double>(rows.tokens.size()) == expected, INVALID_ARGUMENT, "tokens has ", rows.tokens.size(),
            " ids, but in rows of these shapes there are ", expected);
  MOR_CHECK(rows.counts.empty() || rows.counts.size() == rows.tokens.size(), INVALID_ARGUMENT, "counts has ",
            rows.counts.size(), " elements, but tokens has ", rows.tokens.size(), " ids");
  return rows;
}

std::string sizes(const Rows& rows) {
  const BatchShape& first = rows.micro_batches[0];
  int64_t tokens = 0;
  bool equal = true;
  for (const BatchShape& shape : rows.micro_batches) {
    tokens += int64_t{shape.sequences} * shape.length;
    equal = equal && shape.sequences == first.sequences && shape.length == first.length;
  }
  if (!equal) return concat(tokens, " tokens in ", rows.micro_batches.size(), " micro-batches");
  return concat(rows.micro_batches.size(), " x ", first.sequences, " x ", first.length, " tokens");
}

/// The model that `options.distillation.teacher` is; null without distillation. Throws INVALID_ARGUMENT if its weights
/// may change.
NativeModel* teacher_of(const Input& options, const NativeModel& pupil) {
  const Input distillation = options.field("distillation");
  if (distillation.null()) return nullptr;
  NativeModel& teacher = NativeModel::of(distillation.field("teacher"));
  MOR_CHECK(&teacher != &pupil, INVALID_ARGUMENT, "a model cannot be its own teacher; load the teacher by itself");
  const std::shared_ptr<ModelTrainer> trainer = teacher.trainer.lock();
  MOR_CHECK(trainer == nullptr || !trainer->in_use(), INVALID_ARGUMENT,
            "the teacher has a trainer, which would change its weights; dispose that trainer first");
  return &teacher;
}

/// The ranks that `options.distributed.ranks` are; null for a trainer that trains alone. Throws INVALID_ARGUMENT if
/// they train another model, and COMMUNICATION_FAILED if they cannot train on the device of this one.
NativeRanks* ranks_of(const Input& options, const NativeModel& model) {
  const Input distributed = options.field("distributed");
  if (distributed.null()) return nullptr;
  NativeRanks& ranks = NativeRanks::of(distributed.field("ranks"));
  MOR_CHECK(!ranks.has_trainer(), INVALID_ARGUMENT,
            "the ranks train another model, and calls of two trainers would mix; dispose the other trainer first");
  ranks.require_device(model.thread()->device());
  return &ranks;
}

/// What the ranks of these options compare; empty for a trainer that trains alone.
std::vector<SameOnAll> same_on_all(const Input& options) {
  const Input distributed = options.field("distributed");
  if (distributed.null()) return {};
  std::vector<SameOnAll> same;
  for (const Input& one : distributed.field("sameOnAll").items())
    same.push_back({one.field("name").string(), one.field("value").string()});
  return same;
}

void check_teaches_nobody(const NativeModel& model) {
  for (const std::weak_ptr<ModelTrainer>& pupil : model.pupils) {
    const std::shared_ptr<ModelTrainer> trainer = pupil.lock();
    MOR_CHECK(
        trainer == nullptr || !trainer->in_use(), INVALID_ARGUMENT,
        "the model is the teacher of another trainer, so its weights must not change; dispose that trainer first");
  }
}

}  // namespace

void NativeTrainer::define(Napi::Env env) {
  Environment::of(env).trainer_class = Napi::Persistent(DefineClass(
      env, "NativeTrainer",
      {promise_method<&NativeTrainer::step>("step"), promise_method<&NativeTrainer::fail>("fail"),
       promise_method<&NativeTrainer::evaluate>("evaluate"), throwing_method<&NativeTrainer::tensors>("tensors"),
       throwing_method<&NativeTrainer::steps_done>("stepsDone"), promise_method<&NativeTrainer::save>("save"),
       promise_method<&NativeTrainer::read>("read"), promise_method<&NativeTrainer::dispose>("dispose")}));
}

Napi::Value NativeTrainer::create(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "createTrainer", [&]() -> Napi::Value {
    NativeModel& model = NativeModel::of(Input(info[0], "model"));
    const Input input(info[1], "options");
    TrainerOptions options = trainer_options(input);
    NativeModel* teacher = teacher_of(input, model);
    const std::shared_ptr<ModelTrainer> other = model.trainer.lock();
    MOR_CHECK(other == nullptr || !other->in_use(), INVALID_ARGUMENT,
              "the model has a trainer, and a second one would undo its steps; dispose it before making another");
    check_teaches_nobody(model);
    const std::shared_ptr<ModelThread>& thread = model.thread();
    std::shared_ptr<const Model> teaching;
    if (teacher != nullptr) teaching = teacher->thread()->shared_model();
    options.distillation.teacher = teaching.get();
    NativeRanks* ranks = ranks_of(input, model);
    const auto trainer = std::make_shared<ModelTrainer>(thread->disposed(), options, std::move(teaching),
                                                        ranks == nullptr ? nullptr : ranks->host(), same_on_all(input));
    const auto create = [&on_thread = *thread, trainer] {
      if (trainer->disposed->is_set()) return;
      trainer->create(on_thread.model());
      on_thread.add(trainer);
      on_thread.refresh_memory();
    };
    MOR_CHECK(thread->worker().post(task_of(create)), DISPOSED, "the process is exiting");
    model.trainer = trainer;
    if (teacher != nullptr) teacher->pupils.push_back(trainer);
    if (ranks != nullptr) ranks->set_trainer(trainer, thread);
    const Napi::Value kept = ranks == nullptr ? info.Env().Null() : input.field("distributed").field("ranks").value();
    Environment& environment = Environment::of(info.Env());
    return environment.construct(environment.trainer_class,
                                 std::make_shared<TrainerParts>(TrainerParts{thread, trainer, info[0], kept}));
  });
}

NativeTrainer::NativeTrainer(const Napi::CallbackInfo& info) : ObjectWrap(info), external_memory_(info.Env()) {
  throwing(info.Env(), "NativeTrainer", [&]() -> Napi::Value {
    const auto parts = Environment::of(info.Env()).take_from<TrainerParts>();
    keep_alive(info.This(), "model", parts->model);
    keep_alive(info.This(), "ranks", parts->ranks);
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

template <class Work>
Napi::Promise NativeTrainer::run(const CallOptions& options, Work work) {
  return run(
      options,
      [work = std::move(work)](ModelThread& thread, ModelTrainer& trainer) {
        work(thread, trainer);
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

Napi::Value NativeTrainer::step(const Napi::CallbackInfo& info) {
  Rows rows = rows_of(info);
  CallOptions call = options(info, "a step of " + sizes(rows), info[3]);
  call.abort = Abort::ignored;
  return run(
      call,
      [rows = std::move(rows)](ModelThread&, ModelTrainer& trainer) { return trainer.trainer().step(rows.view()); },
      step_stats);
}

Napi::Value NativeTrainer::fail(const Napi::CallbackInfo& info) {
  const auto call = Input(info[0], "call").choice<RankCall>({{"step", RankCall::step}, {"save", RankCall::save}});
  const Error error(error_code_named(Input(info[1], "code").string()), Input(info[2], "message").string(), __FILE__,
                    __LINE__);
  return run(options(info, "an error for the other ranks"),
             [call, error](ModelThread&, ModelTrainer& trainer) { trainer.trainer().fail(call, error); });
}

Napi::Value NativeTrainer::evaluate(const Napi::CallbackInfo& info) {
  Rows rows = rows_of(info);
  const Routing by = routing(Input(info[3], "routing"));
  CallOptions call = options(info, "an evaluation of " + sizes(rows), info[4]);
  return run(
      call,
      [rows = std::move(rows), by](ModelThread&, ModelTrainer& trainer) {
        return trainer.trainer().evaluate(rows.view(), by);
      },
      evaluate_stats);
}

Napi::Value NativeTrainer::tensors(const Napi::CallbackInfo& info) {
  trainer_->disposed->check();
  return trainer_tensor_list(info.Env(), thread_->model(), trainer_->options());
}

Napi::Value NativeTrainer::steps_done(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(trainer_->steps_done()));
}

Napi::Value NativeTrainer::save(const Napi::CallbackInfo& info) {
  const std::string folder = Input(info[0], "folder").string();
  const std::vector<SavedFile> files = saved_files(Input(info[1], "files"));
  return run(options(info, "saving " + folder), [folder, files](ModelThread& thread, ModelTrainer& trainer) {
    save_trainer(trainer.trainer(), folder, files, thread.check());
  });
}

Napi::Value NativeTrainer::read(const Napi::CallbackInfo& info) {
  const std::vector<CheckpointFile> files = checkpoint_files(Input(info[0], "files"));
  const int64_t steps_done = Input(info[1], "stepsDone").natural();
  return run(options(info, "reading the optimizer state"),
             [files, steps_done](ModelThread& thread, ModelTrainer& trainer) {
               read_trainer(trainer.trainer(), files, steps_done, thread.check());
             });
}

Napi::Value NativeTrainer::dispose(const Napi::CallbackInfo& info) {
  external_memory_.set(0);
  if (!trainer_->disposed->set() || thread_->disposed()->is_set()) return resolved(info.Env());
  return post_call(*thread_, {.object = info.This(), .disposed = nullptr, .what = "disposing the trainer"},
                   [trainer = trainer_](ModelThread& thread) { thread.remove(*trainer); });
}

}  // namespace mor::binding
