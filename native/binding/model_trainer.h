// ModelTrainer: a trainer on its model's thread, and the figures of it that other threads may read.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <vector>

#include "binding/model_thread.h"
#include "train/ranks.h"
#include "train/trainer.h"

namespace mor::binding {

class ModelTrainer final : public ModelUser {
 public:
  /// teacher: that of the options, which stays in memory as long as the trainer. ranks: null for one that trains alone.
  /// same_on_all: what the ranks compare.
  ModelTrainer(std::shared_ptr<const DisposedFlag> model, const TrainerOptions& options,
               std::shared_ptr<const Model> teacher, std::shared_ptr<HostRanks> ranks,
               std::vector<SameOnAll> same_on_all)
      : disposed(std::make_shared<DisposedFlag>("trainer", std::move(model))),
        options_(options),
        teacher_(std::move(teacher)),
        ranks_(std::move(ranks)),
        same_on_all_(std::move(same_on_all)) {}

  const std::shared_ptr<DisposedFlag> disposed;

  // ---- from any thread
  /// Whether it trains the model or may still do so.
  bool in_use() const { return !disposed->is_set() && !failed_; }
  int64_t steps_done() const { return steps_done_; }
  const TrainerOptions& options() const { return options_; }
  /// Without the model's.
  size_t bytes() const { return bytes_; }

  // ---- on the model's thread
  /// Allocates the trainer, and waits for the other ranks. What goes wrong is thrown by every later call of `trainer`.
  void create(Model& model) noexcept;
  Trainer& trainer();
  /// Updates the figures; to be called after anything that may have changed them.
  void refresh();
  void release() noexcept override {
    trainer_.reset();
    teacher_.reset();
    communicator_.reset();
    ranks_.reset();
  }
  void add_memory(MemoryByPurpose& use) const override;

 private:
  const TrainerOptions options_;
  std::shared_ptr<const Model> teacher_;
  std::shared_ptr<HostRanks> ranks_;
  const std::vector<SameOnAll> same_on_all_;
  std::shared_ptr<Communicator> communicator_;  ///< between the devices of the ranks
  std::unique_ptr<Trainer> trainer_;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};
  std::atomic<int64_t> steps_done_{0};
  std::atomic<size_t> bytes_{0};
};

}  // namespace mor::binding
