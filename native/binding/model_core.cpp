// ModelCore: creation, residents, release. Must not know of Node.
#include "binding/model_core.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <sstream>
#include <utility>

#include "device/device.h"

namespace mor::binding {

namespace {

class ReleaseTask final : public Task {
 public:
  explicit ReleaseTask(std::shared_ptr<ModelCore> core) : core_(std::move(core)) {}
  void run() noexcept override { core_->release(); }
  void settle() override {}

 private:
  std::shared_ptr<ModelCore> core_;
};

/// 0 for a device that is not in the list: make_ops says why it cannot be had.
size_t memory_of_device(const std::string& device) {
  for (const DeviceInfo& info : list_devices())
    if (info.id == device) return info.memory_bytes;
  return 0;
}

/// Purposes in the order of the table, and what makes each of them smaller.
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
  text << "By purpose:";
  for (const auto& [purpose, lower] : kLower)
    if (const auto found = use.find(purpose); found != use.end() && found->second > 0)
      text << " " << purpose << " " << found->second << " bytes (less with " << lower << "),";
  std::string advice = text.str();
  advice.back() = '.';
  return advice;
}

}  // namespace

ModelCore::ModelCore(std::shared_ptr<Worker> worker) : worker_(std::move(worker)) {}

ModelCore::~ModelCore() {
  release();
}

MemoryByPurpose ModelCore::memory() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return memory_;
}

void ModelCore::create(const ModelConfig& config, const std::string& device, DType dtype, int threads) {
  device_memory_bytes_ = memory_of_device(device);
  check_weights_fit(config, dtype, device_memory_bytes_);
  config_ = config;
  model_ = std::make_unique<Model>(config, make_ops(device, dtype, threads));
  activations_ = std::make_unique<Arena>(model_->ops());
  tokens_ = std::make_unique<Arena>(model_->ops());
  tensors_ = model_->checkpoint_tensors();
  refresh_memory();
}

void ModelCore::adopt(std::shared_ptr<Resident> resident) {
  residents_.push_back(std::move(resident));
}

void ModelCore::drop(Resident& resident) {
  resident.release();
  std::erase_if(residents_, [&](const std::shared_ptr<Resident>& owned) { return owned.get() == &resident; });
  refresh_memory();
}

void ModelCore::release() noexcept {
  for (const std::shared_ptr<Resident>& resident : residents_) resident->release();
  residents_.clear();
  tokens_.reset();
  activations_.reset();
  model_.reset();
}

void ModelCore::refresh_memory() {
  if (model_ == nullptr) return;
  MemoryByPurpose use{{"parameters", model_->memory_bytes()},
                      {"activations", activations_->capacity() + tokens_->capacity()}};
  for (const std::shared_ptr<Resident>& resident : residents_) resident->add_memory(use);
  const std::lock_guard<std::mutex> lock(mutex_);
  memory_ = std::move(use);
}

void ModelCore::rethrow() {
  try {
    throw;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::OUT_OF_MEMORY) throw;
    refresh_memory();
    throw Error(error.code(), concat(error.what(), ". ", memory_advice(memory())), error.file(), error.line());
  } catch (const std::bad_alloc&) {
    refresh_memory();
    MOR_FAIL(OUT_OF_MEMORY, "the host has no memory left. ", memory_advice(memory()));
  }
}

ModelHost::ModelHost(std::shared_ptr<Worker> worker)
    : core_(std::make_shared<ModelCore>(std::move(worker))), life_(std::make_shared<Life>("model")) {}

void ModelHost::dispose() {
  if (life_->end()) core_->worker().close(std::make_unique<ReleaseTask>(core_));
}

}  // namespace mor::binding
