// Environment: how tasks come back to the event loop, and the end of an environment.
#include "binding/environment.h"

#include <algorithm>
#include <utility>

namespace mor::binding {

Environment& Environment::install(Napi::Env env) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  return *environment;
}

Environment& Environment::of(Napi::Env env) {
  return *env.GetInstanceData<Environment>();
}

Environment::Environment(Napi::Env env) : env_(env) {
  const auto answer = [](napi_env answering, napi_value, void* context, void*) {
    // Node passes no environment when it only empties the function while the environment ends.
    if (answering != nullptr) static_cast<Environment*>(context)->settle_delivered();
  };
  const Napi::String name = Napi::String::New(env, "mixture-of-recursions");
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, answer, &wake_);
  MOR_CHECK(status == napi_ok, INTERNAL, "Node gave no thread-safe function (status ", status, ")");
  napi_unref_threadsafe_function(env, wake_);
  // Hooks run in reverse order, so this one runs before the function is taken away.
  napi_add_env_cleanup_hook(
      env, [](void* self) { static_cast<Environment*>(self)->stop(); }, this);
}

Environment::~Environment() {
  stop();
}

/// The list of workers gets its room first: a worker that runs and is not in it would never be joined.
void Environment::prepare_to_start() {
  MOR_CHECK(!stopped_, DISPOSED, "the process is exiting");
  stop_at_exit();
  workers_.reserve(workers_.size() + 1);
}

Napi::Object Environment::construct(const Napi::FunctionReference& of_class, std::shared_ptr<void> from) {
  construct_from_ = std::move(from);
  try {
    return of_class.New({});
  } catch (...) {
    construct_from_.reset();
    throw;
  }
}

void Environment::begin_pending() {
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, wake_);
}

void Environment::end_pending() {
  if (--pending_ == 0) napi_unref_threadsafe_function(env_, wake_);
}

void Environment::deliver(std::unique_ptr<Task> task) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  delivered_.push_back(std::move(task));
  wake_event_loop();
}

void Environment::ended(Worker& worker) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  ended_.push_back(&worker);
  wake_event_loop();
}

/// With the mutex held. One wake-up is enough for everything that is delivered before the event loop has answered it.
/// Once the environment stops, what is delivered is dropped, and the function may be gone.
void Environment::wake_event_loop() {
  if (woken_ || stopped_) return;
  woken_ = napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking) == napi_ok;
}

void Environment::settle_delivered() {
  std::vector<std::unique_ptr<Task>> tasks;
  // Taken together: a worker that has ended stays until its last tasks, which may refer to it, are settled.
  std::vector<Worker*> ended;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(delivered_);
    ended.swap(ended_);
    woken_ = false;
  }
  for (const std::unique_ptr<Task>& task : tasks) {
    const Napi::HandleScope scope(env_);
    try {
      task->settle();
    } catch (const Napi::Error& error) {
      // A callback threw, which is an uncaught exception of the program. While Node terminates, it is lost.
      napi_fatal_exception(env_, error.Value());
    } catch (const std::exception&) {
      // JavaScript can no longer be called: the environment is going away.
    }
  }
  tasks.clear();
  // A task may have called `stop`, which leaves no worker.
  std::erase_if(workers_, [&](const std::shared_ptr<Worker>& worker) {
    const bool has_ended = std::find(ended.begin(), ended.end(), worker.get()) != ended.end();
    if (has_ended) worker->join();
    return has_ended;
  });
}

/// May come in the middle of anything: every worker is asked to stop, finishes or gives up its task, and the tasks that
/// wait are dropped.
void Environment::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
  }
  for (const std::shared_ptr<Worker>& worker : workers_) worker->stop();
  for (const std::shared_ptr<Worker>& worker : workers_) worker->join();
  delivered_.clear();
  workers_.clear();
  ended_.clear();
}

/// process.exit() and uncaught exceptions skip cleanup hooks and go on to destroy the global objects of libraries,
/// which a thread that computes still uses. The 'exit' event comes before that.
void Environment::stop_at_exit() {
  if (std::exchange(listens_for_exit_, true)) return;
  const Napi::HandleScope scope(env_);
  const Napi::Object process = env_.Global().Get("process").As<Napi::Object>();
  const auto on_exit = [this](const Napi::CallbackInfo&) { stop(); };
  process.Get("once").As<Napi::Function>().Call(
      process, {Napi::String::New(env_, "exit"), Napi::Function::New(env_, on_exit, "stopMixtureOfRecursions")});
}

void keep_alive(const Napi::Value& object, const char* name, const Napi::Value& other) {
  object.As<Napi::Object>().DefineProperty(Napi::PropertyDescriptor::Value(name, other, napi_default));
}

}  // namespace mor::binding
