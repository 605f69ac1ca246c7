// NativeRanks: joining and leaving the other ranks, and what they tell each other.
#include "binding/native_ranks.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "binding/environment.h"
#include "binding/model_trainer.h"
#include "binding/native_config.h"
#include "device/device.h"
#include "distributed/join.h"
#include "distributed/launcher.h"
#include "train/ranks.h"

namespace mor::binding {

/// The thread that joins, which ends with it, and what it got.
struct JoinedRanks {
  explicit JoinedRanks(std::shared_ptr<ModelThread> on_thread) : thread(std::move(on_thread)) {}
  ~JoinedRanks() { thread->close(); }

  const std::shared_ptr<ModelThread> thread;
  std::shared_ptr<HostRanks> host;  ///< null: there is one rank only
};

namespace {

constexpr napi_type_tag kRanksTag = {0x6d6f722d72616e6b, 0x5b1e0c77d94f2a38};

}  // namespace

void NativeRanks::define(Napi::Env env) {
  Environment::of(env).ranks_class = Napi::Persistent(
      DefineClass(env, "NativeRanks",
                  {throwing_method<&NativeRanks::rank>("rank"), throwing_method<&NativeRanks::size>("size"),
                   promise_method<&NativeRanks::gather>("gather"), promise_method<&NativeRanks::fail>("fail"),
                   throwing_method<&NativeRanks::require_device>("requireDevice"),
                   promise_method<&NativeRanks::dispose>("dispose")}));
}

Napi::Value NativeRanks::launcher(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return throwing(env, "launcher", [&]() -> Napi::Value {
    const std::optional<Launcher> found = find_launcher(std::getenv);
    if (!found.has_value()) return env.Null();
    const Napi::Object object = Napi::Object::New(env);
    object.Set("name", found->name);
    object.Set("rank", found->rank);
    object.Set("size", found->size);
    object.Set("localRank", found->local_rank ? Napi::Number::New(env, *found->local_rank) : env.Null());
    return object;
  });
}

Napi::Value NativeRanks::join(const Napi::CallbackInfo& info) {
  return rejecting(info.Env(), "joinRanks", [&]() -> Napi::Value {
    const JoinOptions options = join_options(Input(info[0], "options"));
    const std::shared_ptr<ModelThread> thread = Environment::of(info.Env()).start_worker<ModelThread>("communicator");
    const auto joined = std::make_shared<JoinedRanks>(thread);
    return post_call(
        *thread,
        {.object = info.This(), .disposed = thread->disposed(), .what = "joining the other ranks", .signal = info[1]},
        [options, joined](ModelThread& on_thread) {
          joined->host = join_ranks(options, on_thread.check());
          return joined;
        },
        [](Napi::Env env, const std::shared_ptr<JoinedRanks>& ranks) -> Napi::Value {
          Environment& environment = Environment::of(env);
          return environment.construct(environment.ranks_class, ranks);
        });
  });
}

NativeRanks& NativeRanks::of(const Input& input) {
  if (!input.value().IsObject() || !input.value().As<Napi::Object>().CheckTypeTag(&kRanksTag))
    input.fail("ranks of this addon");
  NativeRanks& ranks = *Unwrap(input.value().As<Napi::Object>());
  ranks.joined_->thread->disposed()->check();
  return ranks;
}

NativeRanks::NativeRanks(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  throwing(info.Env(), "NativeRanks", [&]() -> Napi::Value {
    joined_ = Environment::of(info.Env()).take_from<JoinedRanks>();
    info.This().As<Napi::Object>().TypeTag(&kRanksTag);
    joined_->thread->worker().on_stop([weak = std::weak_ptr<HostRanks>(joined_->host)] {
      if (const std::shared_ptr<HostRanks> ranks = weak.lock()) ranks->abandon();
    });
    return info.This();
  });
}

NativeRanks::~NativeRanks() {
  if (joined_ == nullptr || !joined_->thread->disposed()->set()) return;
  if (joined_->host != nullptr) joined_->host->abandon();
}

const std::shared_ptr<HostRanks>& NativeRanks::host() const {
  return joined_->host;
}

void NativeRanks::require_device(const std::string& device) const {
  if (joined_->host != nullptr) check_ranks_fit(*joined_->host, device);
}

bool NativeRanks::has_trainer() const {
  const std::shared_ptr<ModelTrainer> trainer = trainer_.lock();
  return trainer != nullptr && trainer->in_use();
}

void NativeRanks::set_trainer(const std::shared_ptr<ModelTrainer>& trainer,
                              const std::shared_ptr<ModelThread>& thread) {
  trainer_ = trainer;
  trainer_thread_ = thread;
}

Napi::Value NativeRanks::rank(const Napi::CallbackInfo& info) {
  joined_->thread->disposed()->check();
  return Napi::Number::New(info.Env(), joined_->host == nullptr ? 0 : joined_->host->rank());
}

Napi::Value NativeRanks::size(const Napi::CallbackInfo& info) {
  joined_->thread->disposed()->check();
  return Napi::Number::New(info.Env(), joined_->host == nullptr ? 1 : joined_->host->size());
}

Napi::Value NativeRanks::gather(const Napi::CallbackInfo& info) {
  joined_->thread->disposed()->check();
  return gather(info, [text = Input(info[0], "text").string()] { return text; });
}

Napi::Value NativeRanks::fail(const Napi::CallbackInfo& info) {
  joined_->thread->disposed()->check();
  const Error error(error_code_named(Input(info[0], "code").string()), Input(info[1], "message").string(), __FILE__,
                    __LINE__);
  return gather(info, [error]() -> std::string { throw error; });
}

Napi::Value NativeRanks::gather(const Napi::CallbackInfo& info, std::function<std::string()> work) {
  if (trainer_thread_ != nullptr && trainer_thread_->disposed()->is_set()) trainer_thread_.reset();
  ModelThread& thread = trainer_thread_ == nullptr ? *joined_->thread : *trainer_thread_;
  return post_call(
      thread, {.object = info.This(), .disposed = joined_->thread->disposed(), .what = "a gather of texts"},
      [ranks = joined_->host, work = std::move(work)](ModelThread&) {
        return Ranks(ranks.get()).gather_bytes(RankCall::texts, work);
      },
      [](Napi::Env env, const std::vector<std::string>& texts) -> Napi::Value {
        const Napi::Array array = Napi::Array::New(env, texts.size());
        for (uint32_t rank = 0; rank < texts.size(); ++rank) array.Set(rank, texts[rank]);
        return array;
      });
}

Napi::Value NativeRanks::require_device(const Napi::CallbackInfo& info) {
  joined_->thread->disposed()->check();
  require_device(Input(info[0], "device").string());
  return info.Env().Undefined();
}

Napi::Value NativeRanks::dispose(const Napi::CallbackInfo& info) {
  if (!joined_->thread->disposed()->set()) return resolved(info.Env());
  if (joined_->host != nullptr) joined_->host->abandon();
  return post_call(*joined_->thread,
                   {.object = info.This(), .disposed = nullptr, .what = "leaving the other ranks", .turn = Turn::last},
                   [joined = joined_](ModelThread&) { joined->host.reset(); });
}

}  // namespace mor::binding
