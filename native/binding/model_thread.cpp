// ModelThread: creation, work, figures of memory, release.
#include "binding/model_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <sstream>
#include <utility>

#include "device/device.h"

namespace mor::binding {

namespace {

/// Of the thread that calls it. The threads that compute inherit the value from the one that makes them. So the event
/// loop gets a core as soon as it has something to do, even while every core computes.
void yield_to_others(int nice) {
  const auto thread = static_cast<id_t>(gettid());
  setpriority(PRIO_PROCESS, thread, std::max(nice, getpriority(PRIO_PROCESS, thread)));
}

/// 0 for a device that is not in the list: make_ops says why it cannot be had.
size_t memory_of_device(const std::string& device) {
  for (const DeviceInfo& info : list_devices())
    if (info.id == device) return info.memory_bytes;
  return 0;
}

/// A sentence to follow another one: purposes in the order of the table, and what makes each of them smaller. Empty
/// where nothing has memory yet.
std::string memory_advice(const MemoryByPurpose& use) {
  constexpr std::pair<const char*, const char*> kLower[] = {
      {"parameters", "a smaller model"},
      {"masterWeights", "a smaller model"},
      {"gradients", "a smaller model"},
      {"optimizer", "a smaller model"},
      {"activations", "a smaller batch with more gradientAccumulation, shorter rows, or recompute: true"},
      {"kvCache", "a lower kvCacheBytes or maxBatchSize"},
  };
  std::ostringstream text;
  for (const auto& [purpose, lower] : kLower)
    if (const auto found = use.find(purpose); found != use.end() && found->second > 0)
      text << " " << purpose << " " << found->second << " bytes (less with " << lower << "),";
  std::string advice = text.str();
  if (advice.empty()) return advice;
  advice.back() = '.';
  return ". By purpose:" + advice;
}

}  // namespace

MemoryByPurpose ModelThread::memory() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return memory_;
}

void ModelThread::create(const ModelConfig& config, const ModelOptions& options) {
  yield_to_others(options.nice);
  device_memory_bytes_ = memory_of_device(options.device);
  check_weights_fit(config, options.dtype, device_memory_bytes_);
  config_ = config;
  device_ = options.device;
  threads_ = options.threads;
  model_ = std::make_shared<Model>(config, make_ops(options.device, options.dtype, options.threads));
  activations_ = std::make_unique<Arena>(model_->ops());
  tokens_ = std::make_unique<Arena>(model_->ops());
  refresh_memory();
}

void ModelThread::run(const CancelCheck& check, const std::function<void()>& work) {
  check();
  const auto use_check = [this](const CancelCheck& now) {
    check_ = now;
    if (model_ != nullptr) model_->set_interruption(now);
  };
  use_check(check);
  try {
    work();
    use_check({});
    refresh_memory();
  } catch (...) {
    use_check({});
    rethrow_explained();
  }
}

void ModelThread::rethrow_explained() {
  refresh_memory();
  try {
    throw;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    throw Error(error.code(), concat(error.what(), memory_advice(memory())), error.file(), error.line());
  } catch (const std::bad_alloc&) {
    MOR_FAIL(OUT_OF_MEMORY, "the host has no memory left", memory_advice(memory()));
  }
}

void ModelThread::remove(ModelUser& user) {
  user.release();
  std::erase_if(users_, [&](const std::shared_ptr<ModelUser>& owned) { return owned.get() == &user; });
  refresh_memory();
}

void ModelThread::release() noexcept {
  for (const std::shared_ptr<ModelUser>& user : users_) user->release();
  users_.clear();
  tokens_.reset();
  activations_.reset();
  model_.reset();
}

void ModelThread::refresh_memory() {
  if (model_ == nullptr) return;
  MemoryByPurpose use{{"parameters", model_->memory_bytes()},
                      {"activations", activations_->capacity() + tokens_->capacity()}};
  for (const std::shared_ptr<ModelUser>& user : users_) user->add_memory(use);
  const std::lock_guard<std::mutex> lock(mutex_);
  memory_ = std::move(use);
}

}  // namespace mor::binding
