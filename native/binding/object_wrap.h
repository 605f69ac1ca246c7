// ObjectWrap: the base of the addon's classes, whose methods may throw C++ exceptions.
#pragma once

#include <napi.h>

#include "binding/convert.h"

namespace mor::binding {

template <class Self>
class ObjectWrap : public Napi::ObjectWrap<Self> {
 public:
  using Napi::ObjectWrap<Self>::ObjectWrap;

 protected:
  using Method = Napi::Value (Self::*)(const Napi::CallbackInfo& info);

  /// A method for DefineClass. An exception becomes a JavaScript one, or, of a method that returns a promise, a
  /// rejected promise.
  template <Method method>
  static Napi::ClassPropertyDescriptor<Self> throwing_method(const char* name) {
    return Self::InstanceMethod(name, &ObjectWrap::template call<method, false>, napi_default, const_cast<char*>(name));
  }
  template <Method method>
  static Napi::ClassPropertyDescriptor<Self> promise_method(const char* name) {
    return Self::InstanceMethod(name, &ObjectWrap::template call<method, true>, napi_default, const_cast<char*>(name));
  }

 private:
  template <Method method, bool promise>
  Napi::Value call(const Napi::CallbackInfo& info) {
    const auto* name = static_cast<const char*>(info.Data());
    const auto body = [&] { return (static_cast<Self*>(this)->*method)(info); };
    return promise ? rejecting(info.Env(), name, body) : throwing(info.Env(), name, body);
  }
};

}  // namespace mor::binding
