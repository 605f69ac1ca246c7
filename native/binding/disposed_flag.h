// DisposedFlag: whether JavaScript has disposed an object. A disposed model disposes its trainers and engines.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "core/check.h"

namespace mor::binding {

class DisposedFlag {
 public:
  /// noun: what messages call the object, as in "trainer". model: the flag of the model that the object belongs to.
  explicit DisposedFlag(const char* noun, std::shared_ptr<const DisposedFlag> model = nullptr)
      : noun_(noun), model_(std::move(model)) {}

  /// Returns whether this call set it.
  bool set() { return !disposed_.exchange(true); }
  bool is_set() const { return disposed_ || (model_ != nullptr && model_->is_set()); }
  /// Throws DISPOSED once the object or its model is disposed. From any thread.
  void check() const {
    if (model_ != nullptr) model_->check();
    MOR_CHECK(!disposed_, DISPOSED, "the ", noun_, " is disposed");
  }

 private:
  const char* noun_;
  std::shared_ptr<const DisposedFlag> model_;
  std::atomic<bool> disposed_{false};
};

}  // namespace mor::binding
