// Call: from post to settle, with aborts.
#include "binding/call.h"

#include "binding/environment.h"

namespace mor::binding {

Call::Call(ModelThread& thread, const CallOptions& options)
    : thread_(thread),
      env_(options.object.Env()),
      object_(options.object.IsObject() ? Napi::Persistent(options.object.As<Napi::Object>())
                                        : Napi::ObjectReference()),
      disposed_(options.disposed),
      what_(options.what),
      abort_(options.abort) {}

Napi::Promise Call::post(std::unique_ptr<Call> call, const CallOptions& options) {
  Call& self = *call;
  const Napi::Env env = self.env_;
  if (const Input signal(options.signal, "signal"); !options.signal.IsEmpty() && !signal.undefined()) {
    self.aborted_ = signal.field("aborted").boolean();
    self.listener_.emplace(signal, [&self] { self.on_abort(); });
  }
  self.check_wanted();
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  self.deferred_ = deferred;
  if (!self.thread_.worker().post(std::move(call), options.turn)) {
    deferred.Resolve(env.Undefined());  // nobody has it
    MOR_FAIL(DISPOSED, "the process is exiting");
  }
  Environment::of(env).begin_pending();
  return deferred.Promise();
}

void Call::run() noexcept {
  try {
    thread_.run([this] { check_wanted(); }, [this] { work(thread_); });
  } catch (...) {
    failure_ = current_failure(what_);
  }
}

void Call::settle() {
  Environment::of(env_).end_pending();
  listener_.reset();
  if (aborted_) return;  // on_abort has rejected
  try {
    if (disposed_ != nullptr) disposed_->check();  // it may have been disposed in the middle of the work
    if (failure_.has_value()) return deferred_->Reject(to_js(env_, *failure_));
    deferred_->Resolve(result(env_));
  } catch (const Napi::Error& error) {
    deferred_->Reject(error.Value());
  } catch (...) {
    deferred_->Reject(to_js(env_, current_failure(what_)));
  }
}

void Call::check_wanted() const {
  if (disposed_ != nullptr) disposed_->check();
  MOR_CHECK(!thread_.worker().stopping(), DISPOSED, "the process is exiting");
  MOR_CHECK(!aborted_, ABORTED, what_, " was aborted");
}

void Call::on_abort() {
  if (aborted_) return;          // A program may dispatch the event more than once.
  if (!deferred_.has_value()) {  // `post` has not come to it, and refuses the call
    aborted_ = true;
    return;
  }
  const std::unique_ptr<Task> waiting = thread_.worker().take_out(*this);
  if (waiting == nullptr && abort_ == Abort::ignored) return;
  aborted_ = true;
  try {
    check_wanted();
  } catch (...) {
    deferred_->Reject(to_js(env_, current_failure(what_)));
  }
  if (waiting != nullptr) Environment::of(env_).end_pending();
}

}  // namespace mor::binding
