// AbortListener: calls a function when an AbortSignal aborts. On JavaScript's thread, as everything in this file.
#pragma once

#include <napi.h>

#include <functional>

#include "binding/convert.h"

namespace mor::binding {

class AbortListener {
 public:
  /// signal: an AbortSignal. Listens as long as this object lives.
  AbortListener(const Input& signal, std::function<void()> on_abort);
  ~AbortListener();
  AbortListener(const AbortListener&) = delete;
  AbortListener& operator=(const AbortListener&) = delete;

 private:
  Napi::ObjectReference signal_;
  Napi::FunctionReference listener_;
};

}  // namespace mor::binding
