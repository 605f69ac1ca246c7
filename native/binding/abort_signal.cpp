// AbortListener: listens while it lives. Must not know what is aborted.
#include "binding/abort_signal.h"

namespace mor::binding {

namespace {

void call(const Napi::Object& signal, const char* method, const Napi::Function& listener) {
  signal.Get(method).As<Napi::Function>().Call(signal, {Napi::String::New(signal.Env(), "abort"), listener});
}

}  // namespace

AbortListener::AbortListener(const Input& signal, const char* what) : what_(what) {
  if (signal.undefined()) return;
  *aborted_ = signal.field("aborted").boolean();
  check();
  const auto object = signal.value().As<Napi::Object>();
  const auto listener =
      Napi::Function::New(object.Env(), [aborted = aborted_](const Napi::CallbackInfo&) { *aborted = true; });
  signal.field("removeEventListener").function();
  signal.field("addEventListener").function();
  call(object, "addEventListener", listener);
  signal_ = Napi::Persistent(object);
  listener_ = Napi::Persistent(listener);
}

AbortListener::~AbortListener() {
  if (signal_.IsEmpty()) return;
  try {
    const Napi::HandleScope scope(signal_.Env());
    call(signal_.Value(), "removeEventListener", listener_.Value());
  } catch (const Napi::Error&) {
    // JavaScript can no longer be called: then it will not call the listener either.
  }
}

void AbortListener::check() const {
  MOR_CHECK(!*aborted_, ABORTED, what_, " was aborted");
}

}  // namespace mor::binding
