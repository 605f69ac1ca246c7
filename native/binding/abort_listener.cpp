// AbortListener: the calls of the signal's methods.
#include "binding/abort_listener.h"

#include <utility>

namespace mor::binding {

namespace {

void call(const Napi::Object& signal, const char* method, const Napi::Function& listener) {
  signal.Get(method).As<Napi::Function>().Call(signal, {Napi::String::New(signal.Env(), "abort"), listener});
}

}  // namespace

AbortListener::AbortListener(const Input& signal, std::function<void()> on_abort)
    : on_abort_(std::make_shared<const std::function<void()>>(std::move(on_abort))) {
  signal.field("removeEventListener").function();
  signal.field("addEventListener").function();
  const auto object = signal.value().As<Napi::Object>();
  const auto listener = Napi::Function::New(
      object.Env(),
      [weak = std::weak_ptr(on_abort_)](const Napi::CallbackInfo&) {
        if (const auto living = weak.lock()) (*living)();
      },
      "onAbort");
  call(object, "addEventListener", listener);
  signal_ = Napi::Persistent(object);
  listener_ = Napi::Persistent(listener);
}

AbortListener::~AbortListener() {
  try {
    const Napi::HandleScope scope(signal_.Env());
    call(signal_.Value(), "removeEventListener", listener_.Value());
  } catch (const Napi::Error&) {
    // JavaScript can no longer be called, or the method threw.
  }
}

}  // namespace mor::binding
