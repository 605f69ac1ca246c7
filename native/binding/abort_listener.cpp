// AbortListener: the calls of the signal's methods.
#include "binding/abort_listener.h"

#include <utility>

namespace mor::binding {

namespace {

void call(const Napi::Object& signal, const char* method, const Napi::Function& listener) {
  signal.Get(method).As<Napi::Function>().Call(signal, {Napi::String::New(signal.Env(), "abort"), listener});
}

}  // namespace

AbortListener::AbortListener(const Input& signal, std::function<void()> on_abort) {
  signal.field("removeEventListener").function();
  signal.field("addEventListener").function();
  const auto object = signal.value().As<Napi::Object>();
  const auto listener = Napi::Function::New(
      object.Env(), [on_abort = std::move(on_abort)](const Napi::CallbackInfo&) { on_abort(); }, "onAbort");
  call(object, "addEventListener", listener);
  signal_ = Napi::Persistent(object);
  listener_ = Napi::Persistent(listener);
}

AbortListener::~AbortListener() {
  try {
    const Napi::HandleScope scope(signal_.Env());
    call(signal_.Value(), "removeEventListener", listener_.Value());
  } catch (const Napi::Error&) {
    // JavaScript can no longer be called: then it will not call the listener either.
  }
}

}  // namespace mor::binding
