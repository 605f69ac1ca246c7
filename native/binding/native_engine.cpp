// NativeEngine: its methods, and the tasks that run its loop.
#include "binding/native_engine.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "binding/call.h"
#include "binding/environment.h"
#include "binding/native_config.h"
#include "binding/native_model.h"
#include "binding/native_results.h"

namespace mor::binding {

namespace {

/// Events on their way to JavaScript's thread.
struct EventsTask final : Task {
  EventsTask(std::shared_ptr<NativeEngine*> to, PackedEvents what) : receiver(std::move(to)), events(std::move(what)) {}
  void run() noexcept override {}
  void settle() override {
    if (*receiver != nullptr) (*receiver)->receive(events);
  }
  std::shared_ptr<NativeEngine*> receiver;
  PackedEvents events;
};

/// Posts one turn of the loop, which posts the next one.
void post_turn(ModelThread& thread, std::shared_ptr<EngineLoop> loop, std::shared_ptr<const DisposedFlag> disposed) {
  const auto turn = [&thread, loop = std::move(loop), disposed = std::move(disposed)] {
    if (!disposed->is_set() && loop->turn(thread)) post_turn(thread, loop, disposed);
  };
  thread.worker().post(task_of(turn), Turn::alternating);
}

/// What the constructor needs.
struct EngineParts {
  std::shared_ptr<ModelThread> thread;
  std::shared_ptr<EngineLoop> loop;
  std::shared_ptr<NativeEngine*> receiver;
  Napi::Value model;
  Napi::Function on_events;
};

}  // namespace

void NativeEngine::define(Napi::Env env) {
  Environment::of(env).engine_class = Napi::Persistent(
      DefineClass(env, "NativeEngine",
                  {throwing_method<&NativeEngine::submit>("submit"), throwing_method<&NativeEngine::abort>("abort"),
                   throwing_method<&NativeEngine::stats>("stats"), promise_method<&NativeEngine::close>("close")}));
}

Napi::Value NativeEngine::create(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "createEngine", [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    const std::shared_ptr<ModelThread>& thread = NativeModel::of(Input(info[0], "model")).thread();
    EngineOptions options = engine_options(Input(info[1], "options"));
    options.device_memory_bytes = thread->device_memory_bytes();
    check_options(thread->config(), thread->model().ops().compute_dtype(), options);
    const Napi::Function on_events = Input(info[2], "onEvents").function();
    auto receiver = std::make_shared<NativeEngine*>(nullptr);
    auto loop = std::make_shared<EngineLoop>(
        options, thread->config().num_recursions, [&environment, receiver](PackedEvents events) {
          if (!events.packed.empty()) environment.deliver(std::make_unique<EventsTask>(receiver, std::move(events)));
        });
    const auto add = [&on_thread = *thread, loop] { on_thread.add(loop); };
    MOR_CHECK(thread->worker().post(task_of(add), Turn::alternating), DISPOSED, "the process is exiting");
    return environment.construct(environment.engine_class, std::make_shared<EngineParts>(EngineParts{
                                                               thread, loop, receiver, info[0], on_events}));
  });
}

NativeEngine::NativeEngine(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  throwing(info.Env(), "NativeEngine", [&]() -> Napi::Value {
    const auto parts = Environment::of(info.Env()).take_from<EngineParts>();
    keep_alive(info.This(), "model", parts->model);
    thread_ = parts->thread;
    disposed_ = std::make_shared<DisposedFlag>("engine", thread_->disposed());
    loop_ = parts->loop;
    receiver_ = parts->receiver;
    *receiver_ = this;
    on_events_ = Napi::Persistent(parts->on_events);
    return info.This();
  });
}

NativeEngine::~NativeEngine() {
  if (receiver_ == nullptr) return;
  *receiver_ = nullptr;
  if (disposed_->set())
    thread_->worker().post(task_of([&thread = *thread_, loop = loop_] { thread.remove(*loop); }), Turn::alternating);
}

Napi::Value NativeEngine::submit(const Napi::CallbackInfo& info) {
  disposed_->check();
  const auto id = static_cast<uint64_t>(Input(info[0], "id").natural());
  std::vector<int32_t> prompt = Input(info[1], "prompt").int32_array();
  const GenerateParams params = generate_params(Input(info[2], "params"));
  MOR_CHECK(active_.insert(id).second, INVALID_ARGUMENT, "request ", id, " is under way already");
  Environment::of(info.Env()).begin_pending();
  if (active_.size() == 1) Ref();
  if (loop_->submit(id, std::move(prompt), params)) post_turn(*thread_, loop_, disposed_);
  return info.Env().Undefined();
}

Napi::Value NativeEngine::abort(const Napi::CallbackInfo& info) {
  const auto id = static_cast<uint64_t>(Input(info[0], "id").natural());
  if (active_.contains(id) && !disposed_->is_set() && loop_->abort(id)) post_turn(*thread_, loop_, disposed_);
  return info.Env().Undefined();
}

Napi::Value NativeEngine::stats(const Napi::CallbackInfo& info) {
  disposed_->check();
  return engine_stats(info.Env(), loop_->stats());
}

Napi::Value NativeEngine::close(const Napi::CallbackInfo& info) {
  disposed_->set();
  if (thread_->disposed()->is_set()) return resolved(info.Env());
  return post_call(
      *thread_, {.object = info.This(), .disposed = nullptr, .what = "closing the engine", .turn = Turn::alternating},
      [loop = loop_](ModelThread& thread) {
        loop->abort_all();
        thread.remove(*loop);
      });
}

void NativeEngine::receive(const PackedEvents& events) {
  const Napi::Env env = Env();
  [[maybe_unused]] const Napi::Value self = Value();  // so that it is not collected before the callback has returned
  for (const uint64_t request : events.finished) {
    active_.erase(request);
    Environment::of(env).end_pending();
  }
  if (active_.empty() && !events.finished.empty()) Unref();
  Napi::Float64Array packed = Napi::Float64Array::New(env, events.packed.size());
  std::copy(events.packed.begin(), events.packed.end(), packed.Data());
  if (events.messages.empty()) {
    on_events_.Call({packed});
    return;
  }
  const Napi::Array messages = Napi::Array::New(env, events.messages.size());
  for (uint32_t i = 0; i < events.messages.size(); ++i) messages.Set(i, events.messages[i]);
  on_events_.Call({packed, messages});
}

}  // namespace mor::binding
