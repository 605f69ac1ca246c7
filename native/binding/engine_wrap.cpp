// NativeEngine: requests in, events out, one crossing a step. Must not decide anything about batching or sampling.
#include "binding/engine_wrap.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "binding/async.h"
#include "binding/drop_task.h"
#include "binding/model_wrap.h"
#include "binding/native_config.h"
#include "binding/native_results.h"

namespace mor::binding {

namespace {

constexpr napi_type_tag kEngineTag = {0x6d6f722d656e6769, 0xc4a85d1270eb936f};
constexpr int64_t kLargestId = (int64_t{1} << 53) - 1;

/// What a new NativeEngine is made of.
struct EngineParts {
  std::shared_ptr<ModelHost> host;
  std::shared_ptr<EngineResident> resident;
  std::shared_ptr<EngineWrap*> port;
  Napi::Function on_events;
};

/// Events on their way to the thread of JavaScript.
class EventsTask final : public Task {
 public:
  EventsTask(std::shared_ptr<EngineWrap*> port, PackedEvents events)
      : port_(std::move(port)), events_(std::move(events)) {}
  void run() noexcept override {}
  void settle() override {
    if (*port_ != nullptr) (*port_)->receive(events_);
  }

 private:
  std::shared_ptr<EngineWrap*> port_;
  PackedEvents events_;
};

class AdoptTask final : public Task {
 public:
  AdoptTask(std::shared_ptr<ModelCore> core, std::shared_ptr<EngineResident> resident)
      : core_(std::move(core)), resident_(std::move(resident)) {}
  void run() noexcept override { core_->adopt(resident_); }
  void settle() override {}

 private:
  std::shared_ptr<ModelCore> core_;
  std::shared_ptr<EngineResident> resident_;
};

/// One step, then back to the end of the queue, so that the model's other work gets its turns.
class TickTask final : public Task {
 public:
  TickTask(std::shared_ptr<ModelCore> core, std::shared_ptr<EngineResident> resident, std::shared_ptr<const Life> life)
      : core_(std::move(core)), resident_(std::move(resident)), life_(std::move(life)) {}
  void run() noexcept override {
    if (!life_->ended() && resident_->tick(*core_))
      core_->worker().post(std::make_unique<TickTask>(core_, resident_, life_));
  }
  void settle() override {}

 private:
  std::shared_ptr<ModelCore> core_;
  std::shared_ptr<EngineResident> resident_;
  std::shared_ptr<const Life> life_;
};

}  // namespace

void EngineWrap::define(Napi::Env env) {
  const Napi::Function constructor =
      DefineClass(env, "NativeEngine",
                  {InstanceMethod<&EngineWrap::submit>("submit"), InstanceMethod<&EngineWrap::abort>("abort"),
                   InstanceMethod<&EngineWrap::stats>("stats"), InstanceMethod<&EngineWrap::close>("close")});
  Environment::of(env).engine_class = Napi::Persistent(constructor);
}

Napi::Value EngineWrap::create(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "createEngine", [&]() -> Napi::Value {
    Environment& environment = Environment::of(info.Env());
    const std::shared_ptr<ModelHost>& host = ModelWrap::host_of(Input(info[0], "model"));
    EngineOptions options = engine_options(Input(info[1], "options"));
    options.device_memory_bytes = host->core()->device_memory_bytes();
    const Napi::Function on_events = Input(info[2], "onEvents").function();
    auto port = std::make_shared<EngineWrap*>(nullptr);
    auto resident = std::make_shared<EngineResident>(
        options, host->core()->config().num_recursions, [&environment, port](PackedEvents events) {
          if (!events.packed.empty()) environment.deliver(std::make_unique<EventsTask>(port, std::move(events)));
        });
    MOR_CHECK(host->core()->worker().post(std::make_unique<AdoptTask>(host->core(), resident)), DISPOSED,
              "the process is exiting");
    return environment.construct(environment.engine_class,
                                 std::make_shared<EngineParts>(EngineParts{host, resident, port, on_events}));
  });
}

EngineWrap::EngineWrap(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  throwing(info.Env(), "NativeEngine", [&]() -> Napi::Value {
    const auto parts = Environment::of(info.Env()).take_from<EngineParts>();
    info.This().As<Napi::Object>().TypeTag(&kEngineTag);
    host_ = parts->host;
    resident_ = parts->resident;
    life_ = std::make_shared<Life>("engine", host_->life());
    port_ = parts->port;
    *port_ = this;
    on_events_ = Napi::Persistent(parts->on_events);
    return info.This();
  });
}

EngineWrap::~EngineWrap() {
  if (port_ == nullptr) return;
  *port_ = nullptr;
  if (life_->end()) host_->core()->worker().post(std::make_unique<DropTask>(host_->core(), resident_));
}

void EngineWrap::post_tick() {
  host_->core()->worker().post(std::make_unique<TickTask>(host_->core(), resident_, life_));
}

Napi::Value EngineWrap::submit(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "submit", [&]() -> Napi::Value {
    life_->check();
    const auto id = static_cast<uint64_t>(Input(info[0], "id").integer(0, kLargestId));
    std::vector<int32_t> prompt = Input(info[1], "prompt").int32_array();
    const GenerateParams params = generate_params(Input(info[2], "params"));
    MOR_CHECK(active_.insert(id).second, INVALID_ARGUMENT, "request ", id, " is under way already");
    Environment::of(info.Env()).begin_pending();
    if (active_.size() == 1) Ref();
    if (resident_->submit(id, std::move(prompt), params)) post_tick();
    return info.Env().Undefined();
  });
}

Napi::Value EngineWrap::abort(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "abort", [&]() -> Napi::Value {
    const auto id = static_cast<uint64_t>(Input(info[0], "id").integer(0, kLargestId));
    if (active_.contains(id) && !life_->ended() && resident_->abort(id)) post_tick();
    return info.Env().Undefined();
  });
}

Napi::Value EngineWrap::stats(const Napi::CallbackInfo& info) {
  return throwing(info.Env(), "stats", [&]() -> Napi::Value {
    life_->check();
    return engine_stats(info.Env(), resident_->stats());
  });
}

Napi::Value EngineWrap::close(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "close", [&]() -> Napi::Value {
    life_->end();
    if (host_->life()->ended()) {
      const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(info.Env());
      deferred.Resolve(info.Env().Undefined());
      return deferred.Promise();
    }
    return run_on(
        host_->core()->worker(), info.Env(), std::make_shared<Life>("engine"), "closing the engine",
        [core = host_->core(), resident = resident_] {
          resident->abort_all();
          core->drop(*resident);
          return Nothing{};
        },
        to_undefined);
  });
}

void EngineWrap::receive(const PackedEvents& events) {
  const Napi::Env env = Env();
  [[maybe_unused]] const Napi::Value self = Value();  // keeps this object until the end, whatever the callback does
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
