// DropTask: gives a resident's memory back on the worker, after everything that was asked of it before.
// Must not know what the resident is.
#pragma once

#include <memory>
#include <utility>

#include "binding/model_core.h"

namespace mor::binding {

class DropTask final : public Task {
 public:
  DropTask(std::shared_ptr<ModelCore> core, std::shared_ptr<Resident> resident)
      : core_(std::move(core)), resident_(std::move(resident)) {}
  void run() noexcept override { core_->drop(*resident_); }
  void settle() override {}

 private:
  std::shared_ptr<ModelCore> core_;
  std::shared_ptr<Resident> resident_;
};

}  // namespace mor::binding
