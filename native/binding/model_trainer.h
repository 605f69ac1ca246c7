// ModelTrainer: a trainer on its model's thread, and what other threads may know of it.
#pragma once

#include <atomic>
#include <exception>
#include <memory>

#include "binding/model_thread.h"
#include "train/trainer.h"

namespace mor::binding {

class ModelTrainer final : public ModelUser {
 public:
  ModelTrainer(std::shared_ptr<const DisposedFlag> model, const TrainerOptions& options)
      : disposed(std::make_shared<DisposedFlag>("trainer", std::move(model))), options_(options) {}

  const std::shared_ptr<DisposedFlag> disposed;

  // ---- from any thread
  /// Whether it trains its model, or is about to.
  bool in_use() const { return !disposed->is_set() && !failed_; }
  int64_t steps_done() const { return steps_done_; }
  /// Bytes beside the model's.
  size_t bytes() const { return bytes_; }

  // ---- on the model's thread
  /// Allocates. What goes wrong is thrown by every later call of `trainer`.
  void create(Model& model) noexcept;
  Trainer& trainer();
  /// After anything that may have changed the step or the memory.
  void refresh();
  void release() noexcept override { trainer_.reset(); }
  void add_memory(MemoryByPurpose& use) const override;

 private:
  const TrainerOptions options_;
  std::unique_ptr<Trainer> trainer_;
  std::exception_ptr failure_;
  std::atomic<bool> failed_{false};
  std::atomic<int64_t> steps_done_{0};
  std::atomic<size_t> bytes_{0};
};

}  // namespace mor::binding
