// Environment: what the addon keeps for one Node environment (the main thread or a worker thread): its classes, its
// workers, and the way back to the event loop.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "binding/worker.h"
#include "core/check.h"

namespace mor::binding {

class Environment final : public TaskSink {
 public:
  /// Makes an Environment the instance data of `env`. There are no globals, so one process can have many.
  static Environment& install(Napi::Env env);
  static Environment& of(Napi::Env env);
  explicit Environment(Napi::Env env);
  ~Environment() override;

  /// A new object that has a `worker()`. It lives at least until the worker has ended and been joined. Throws DISPOSED
  /// once the process is exiting.
  template <class Owner, class... Arguments>
  std::shared_ptr<Owner> start_worker(Arguments&&... arguments) {
    prepare_to_start();
    auto owner = std::make_shared<Owner>(*this, std::forward<Arguments>(arguments)...);
    workers_.emplace_back(owner, &owner->worker());
    return owner;
  }

  /// Keeps the process alive from the first `begin_pending` to the last `end_pending`.
  void begin_pending();
  void end_pending();

  void deliver(std::unique_ptr<Task> task) noexcept override;
  void ended(Worker& worker) noexcept override;

  Napi::FunctionReference model_class, trainer_class, engine_class, ranks_class;
  /// A new object of a class, made of `from`.
  Napi::Object construct(const Napi::FunctionReference& of_class, std::shared_ptr<void> from);
  /// For constructors: what `construct` was given. Throws INVALID_ARGUMENT if JavaScript called the constructor itself.
  template <class From>
  std::shared_ptr<From> take_from() {
    MOR_CHECK(construct_from_ != nullptr, INVALID_ARGUMENT, "objects of the addon come from its functions only");
    return std::static_pointer_cast<From>(std::exchange(construct_from_, nullptr));
  }

 private:
  void prepare_to_start();
  void wake_event_loop();
  void settle_delivered();
  void stop();
  void stop_at_exit();

  const Napi::Env env_;
  napi_threadsafe_function wake_ = nullptr;
  std::shared_ptr<void> construct_from_;
  int64_t pending_ = 0;
  bool listens_for_exit_ = false;
  std::vector<std::shared_ptr<Worker>> workers_;

  std::mutex mutex_;  ///< of everything below
  std::vector<std::unique_ptr<Task>> delivered_;
  std::vector<Worker*> ended_;
  bool woken_ = false;
  bool stopped_ = false;  ///< the event loop's thread, which alone sets it, also reads it without the mutex
};

/// `object` keeps `other` from being collected, as its property `name`.
void keep_alive(const Napi::Value& object, const char* name, const Napi::Value& other);

}  // namespace mor::binding
