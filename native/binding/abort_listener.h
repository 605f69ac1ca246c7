// AbortListener: calls a function when an AbortSignal aborts. On JavaScript's thread, as everything in this file.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

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
  /// It goes with this object, and then the listener calls nothing: a signal of a program's own may keep its listeners.
  const std::shared_ptr<const std::function<void()>> on_abort_;
  Napi::ObjectReference signal_;
  Napi::FunctionReference listener_;
};

}  // namespace mor::binding
