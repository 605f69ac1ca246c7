// ModelCore: a model, its worker, and everything on that worker that uses the model. The rule of this folder: one Ops,
// one thread; so forward passes, steps, checkpoints and generation take turns on the model's worker.
// Must not know of Node.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "binding/checkpoint_io.h"
#include "binding/life.h"
#include "binding/worker.h"
#include "model/model.h"

namespace mor::binding {

/// Bytes by purpose: parameters, gradients, optimizer, activations, kvCache.
using MemoryByPurpose = std::map<std::string, size_t>;

/// Something that uses the model and must go before it does: a trainer, an engine. All of it on the worker's thread.
class Resident {
 public:
  virtual ~Resident() = default;
  /// Gives everything back; the model is about to go.
  virtual void release() noexcept = 0;
  virtual void add_memory(MemoryByPurpose& use) const = 0;
};

class ModelCore {
 public:
  explicit ModelCore(std::shared_ptr<Worker> worker);
  ~ModelCore();
  ModelCore(const ModelCore&) = delete;
  ModelCore& operator=(const ModelCore&) = delete;

  // ---- from any thread
  Worker& worker() const { return *worker_; }
  /// As of the last finished task.
  MemoryByPurpose memory() const;
  size_t weight_bytes() const { return memory().at("parameters"); }

  // ---- on the worker's thread
  /// Throws OUT_OF_MEMORY where the weights cannot fit the machine, and what Model and make_ops throw.
  void create(const ModelConfig& config, const std::string& device, DType dtype, int threads);
  bool created() const { return model_ != nullptr; }
  Model& model() { return *model_; }
  Arena& activations() { return *activations_; }
  /// For token ids; reset by its user.
  Arena& tokens() { return *tokens_; }
  void adopt(std::shared_ptr<Resident> resident);
  void drop(Resident& resident);
  /// Drops all residents and the model. Safe to call twice, and once the thread has ended from any other.
  void release() noexcept;
  void refresh_memory();
  /// In a catch block: throws the exception on; where the device or the host ran out of memory, with the bytes that
  /// this model and what uses it take, by purpose, and what to lower.
  [[noreturn]] void rethrow();

  // ---- from any thread, once created
  const ModelConfig& config() const { return config_; }
  /// Of the device that the model is on; 0: unknown.
  size_t device_memory_bytes() const { return device_memory_bytes_; }
  /// Every tensor of a checkpoint, in table order: parameters, then the balancing bias.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }

 private:
  const std::shared_ptr<Worker> worker_;
  ModelConfig config_;
  size_t device_memory_bytes_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Arena> activations_, tokens_;
  std::vector<std::shared_ptr<Resident>> residents_;
  std::vector<NamedTensor> tensors_;

  mutable std::mutex mutex_;  ///< of memory_
  MemoryByPurpose memory_;
};

/// What JavaScript objects hold of a model; the memory goes when it is disposed or when the last of them is collected.
class ModelHost {
 public:
  explicit ModelHost(std::shared_ptr<Worker> worker);
  ~ModelHost() { dispose(); }
  ModelHost(const ModelHost&) = delete;
  ModelHost& operator=(const ModelHost&) = delete;

  const std::shared_ptr<ModelCore>& core() const { return core_; }
  const std::shared_ptr<Life>& life() const { return life_; }
  /// What runs ends first, what waits is refused, then the worker gives the memory back and ends. Does not wait.
  void dispose();

 private:
  const std::shared_ptr<ModelCore> core_;
  const std::shared_ptr<Life> life_;
};

}  // namespace mor::binding
