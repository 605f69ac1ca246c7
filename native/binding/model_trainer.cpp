// ModelTrainer: how it is created, and its figures.
#include "binding/model_trainer.h"

#include "device/device.h"

namespace mor::binding {

void ModelTrainer::create(Model& model) noexcept {
  try {
    TrainerOptions options = options_;
    if (ranks_ != nullptr) {
      std::vector<SameOnAll> same = same_on_all_;
      same.insert(same.begin(), {"their devices", model.ops().name()});
      check_same(Ranks(ranks_.get()), same);
      communicator_ = make_communicator(model.ops(), ranks_);
      options.communicator = communicator_.get();
    }
    trainer_ = std::make_unique<Trainer>(model, options);
    refresh();
  } catch (...) {
    trainer_.reset();
    communicator_.reset();
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
