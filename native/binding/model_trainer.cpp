// ModelTrainer: how it is created, and its figures.
#include "binding/model_trainer.h"

namespace mor::binding {

void ModelTrainer::create(Model& model) noexcept {
  try {
    trainer_ = std::make_unique<Trainer>(model, options_);
    refresh();
  } catch (...) {
    trainer_.reset();
    failure_ = std::current_exception();
    failed_ = true;
  }
}

Trainer& ModelTrainer::trainer() {
  if (failure_ != nullptr) std::rethrow_exception(failure_);
  return *trainer_;
}

void ModelTrainer::refresh() {
  steps_done_ = trainer_->steps_done();
  bytes_ = trainer_->memory().total() - trainer_->model().memory_bytes();
}

void ModelTrainer::add_memory(MemoryByPurpose& use) const {
  if (trainer_ == nullptr) return;
  const MemoryUse own = trainer_->memory();
  use["masterWeights"] += own.parameters - trainer_->model().memory_bytes();
  use["gradients"] += own.gradients;
  use["optimizer"] += own.optimizer;
  use["activations"] += own.activations;
}

}  // namespace mor::binding
