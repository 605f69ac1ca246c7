// Life: whether an object may still be used; the end of a model is the end of its trainers and engines.
// Must not know what the objects are.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "core/check.h"

namespace mor::binding {

class Life {
 public:
  /// noun: "model", as messages name it.
  explicit Life(const char* noun, std::shared_ptr<const Life> parent = nullptr)
      : noun_(noun), parent_(std::move(parent)) {}

  /// Returns whether this call ended it.
  bool end() { return !ended_.exchange(true); }
  bool ended() const { return ended_ || (parent_ != nullptr && parent_->ended()); }
  /// Throws DISPOSED. From any thread.
  void check() const {
    if (parent_ != nullptr) parent_->check();
    MOR_CHECK(!ended_, DISPOSED, "the ", noun_, " is disposed");
  }

 private:
  const char* noun_;
  std::shared_ptr<const Life> parent_;
  std::atomic<bool> ended_{false};
};

}  // namespace mor::binding
