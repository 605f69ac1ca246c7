// ModelThread: the thread of one model, with the model and its trainer and engines. An Ops may be used by one thread
// only, so forward passes, steps, checkpoints and generation all run there.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "binding/disposed_flag.h"
#include "binding/worker.h"
#include "core/cancel_check.h"
#include "model/model.h"

namespace mor::binding {

/// Bytes by purpose: parameters, masterWeights, gradients, optimizer, activations, kvCache.
using MemoryByPurpose = std::map<std::string, size_t>;

struct ModelOptions {
  std::string device;
  DType dtype = DType::bfloat16;
  int threads = 0;  ///< 0: as many as the device chooses
  int nice = 0;     ///< of the threads that compute, from 0 to 19; never less than the process has
};

/// A trainer or an engine of a model. It is released before the model.
class ModelUser {
 public:
  virtual ~ModelUser() = default;
  /// Gives the memory back.
  virtual void release() noexcept = 0;
  virtual void add_memory(MemoryByPurpose& use) const = 0;
};

class ModelThread {
 public:
  /// Starts the thread. The sink must outlive it. noun: of what JavaScript disposes, for messages.
  explicit ModelThread(TaskSink& sink, const char* noun = "model")
      : disposed_(std::make_shared<DisposedFlag>(noun)), worker_(sink) {}
  /// The thread must have been joined.
  ~ModelThread() { release(); }

  // ---- from any thread
  Worker& worker() { return worker_; }
  const std::shared_ptr<DisposedFlag>& disposed() const { return disposed_; }
  /// The thread takes no more tasks, runs those that wait, releases the model and ends.
  void close() {
    worker_.post(task_of([this] { release(); }), Turn::last);
  }
  /// As of the last finished task.
  MemoryByPurpose memory() const;

  // ---- on the thread
  /// Throws OUT_OF_MEMORY where the weights cannot fit the machine, and what Model and make_ops throw.
  void create(const ModelConfig& config, const ModelOptions& options);
  Model& model() { return *model_; }
  Arena& activations() { return *activations_; }
  /// Memory for token ids. A caller resets it before it fills it.
  Arena& tokens() { return *tokens_; }
  /// Runs `work`, and throws what it throws, by rethrow_explained. `check` is called before the work and, while it
  /// runs, before every layer, tensor and chunk. If `check` throws, the work ends there.
  void run(const CancelCheck& check, const std::function<void()>& work);
  /// The `check` of the work that runs.
  const CancelCheck& check() const { return check_; }
  /// In a catch block: throws the exception again. Where the device or the host ran out of memory, the message also
  /// says how many bytes the model and its users take for which purpose, and what to lower.
  [[noreturn]] void rethrow_explained();
  void add(std::shared_ptr<ModelUser> user) { users_.push_back(std::move(user)); }
  void remove(ModelUser& user);
  /// Removes all users and the model. Does nothing the second time.
  void release() noexcept;
  void refresh_memory();

  // ---- from any thread, once created; so are the constant parts of model()
  /// 0: as many as the device chooses.
  int threads() const { return threads_; }
  const ModelConfig& config() const { return config_; }
  const std::string& device() const { return device_; }
  /// For a user on another thread, who reads the weights and the tables. Must not be called once it is disposed.
  std::shared_ptr<const Model> shared_model() const { return model_; }
  /// Of the device that the model is on; 0: unknown.
  size_t device_memory_bytes() const { return device_memory_bytes_; }

 private:
  const std::shared_ptr<DisposedFlag> disposed_;
  ModelConfig config_;
  std::string device_;
  size_t device_memory_bytes_ = 0;
  int threads_ = 0;
  std::shared_ptr<Model> model_;
  std::unique_ptr<Arena> activations_, tokens_;
  std::vector<std::shared_ptr<ModelUser>> users_;
  CancelCheck check_;

  mutable std::mutex mutex_;  ///< of memory_
  MemoryByPurpose memory_;
  Worker worker_;
};

}  // namespace mor::binding
