// Model: a configuration, its weights on one device, and what every pass over them needs.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "model/block.h"

namespace mor {

class Model {
 public:
  /// Allocates the weights without initialising them.
  Model(const ModelConfig& config, std::unique_ptr<Ops> ops);

  const ModelConfig& config() const { return config_; }
  Ops& ops() const { return *ops_; }
  const Parameters& parameters() const { return parameters_; }
  /// A buffer of parameters().bytes() bytes.
  void* weights() const { return weights_; }
  const ModelTensors& tensors() const { return tensors_; }
  /// A number that rises whenever the weights change. Code that keeps results computed from the weights compares it;
  /// code that writes weights in another way than by `init` and `set` must call `weights_changed`.
  uint64_t weights_version() const { return weights_version_; }
  void weights_changed() { ++weights_version_; }
  /// The bias b of loss-free balancing with token choice, [N] master; else empty.
  const Tensor& balancing_bias() const { return tensors_.balancing_bias; }
  /// The running thresholds of expert choice that selects by threshold, [N] master; else empty.
  const Tensor& thresholds() const { return tensors_.thresholds; }
  /// All of the weights.
  std::vector<NamedTensor> checkpoint_tensors() const;
  LayerContext context(Arena& arena) const { return context(*ops_, arena, interruption_); }
  /// For an Ops other than the model's own: one that only counts, or that of another model of the device.
  LayerContext context(Ops& ops, Arena& arena, const std::function<void()>& interruption) const {
    return {ops, arena, config_, rotary_table_, interruption};
  }

  /// Sets a function that is called before every layer of every pass and before every tensor that `init` fills; if it
  /// throws, the work ends there. To be set between passes; empty: none.
  void set_interruption(std::function<void()> interruption) { interruption_ = std::move(interruption); }
  const std::function<void()>& interruption() const { return interruption_; }

  /// Fills every parameter as its initialiser says. Random numbers come from a counter-based stream of (seed, index of
  /// the parameter): the same weights on every device and for any number of threads. threads: of this machine that
  /// draw; 0: as many as it can use.
  void init(uint64_t seed, int threads = 0);
  /// Copies host float32 values to parameter `index`, rounded to its storage, or back.
  void set(size_t index, const float* values);
  void get(size_t index, float* values) const;

  size_t memory_bytes() const { return memory_.capacity(); }

 private:
  ModelConfig config_;
  std::unique_ptr<Ops> ops_;
  Parameters parameters_;
  Arena memory_;
  void* weights_;
  ModelTensors tensors_;
  Tensor rotary_table_;
  uint64_t weights_version_ = 0;
  std::function<void()> interruption_;
};

/// Throws OUT_OF_MEMORY, naming both sizes, if the weights and the rotary table do not fit into `device_bytes`
/// (0: not known), and INVALID_CONFIG if the config is not valid. compute: dtype of the device.
void check_weights_fit(const ModelConfig& config, DType compute, size_t device_bytes);

}  // namespace mor
