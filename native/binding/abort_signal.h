// AbortListener: an AbortSignal that work on another thread can look at. Must not know what is aborted.
#pragma once

#include <napi.h>

#include <atomic>
#include <memory>

#include "binding/convert.h"

namespace mor::binding {

class AbortListener {
 public:
  /// signal: an AbortSignal or undefined. Throws ABORTED if it has aborted already. `what`: "reading weights".
  AbortListener(const Input& signal, const char* what);
  ~AbortListener();
  AbortListener(const AbortListener&) = delete;
  AbortListener& operator=(const AbortListener&) = delete;

  /// Throws ABORTED. From any thread; the only method that is.
  void check() const;

 private:
  const char* what_;
  std::shared_ptr<std::atomic<bool>> aborted_ = std::make_shared<std::atomic<bool>>(false);
  Napi::ObjectReference signal_;
  Napi::FunctionReference listener_;
};

}  // namespace mor::binding
