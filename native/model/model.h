// Model: a configuration, its weights on one device, and what every pass over them needs.
// Must not know of optimisers, batches or requests.
#pragma once

#include <functional>
#include <memory>

#include "model/block.h"

namespace mor {

class Model {
 public:
  /// Allocates the weights without initialising them.
  Model(const ModelConfig& config, std::unique_ptr<Ops> ops);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const { return config_; }
  Ops& ops() const { return *ops_; }
  const Parameters& parameters() const { return parameters_; }
  /// Flat buffer of parameters().size() elements in compute dtype.
  void* weights() const { return weights_; }
  const ModelTensors& tensors() const { return tensors_; }
  /// Rises whenever the weights change: whoever keeps what was computed from them compares it. Whoever writes weights
  /// other than by `init` and `set` says so.
  uint64_t weights_version() const { return weights_version_; }
  void weights_changed() { ++weights_version_; }
  /// Loss-free balancing bias b of token choice, [N] master; part of the checkpoint, not trained by gradient. Empty
  /// without.
  const Tensor& balancing_bias() const { return balancing_bias_; }
  LayerContext context(Arena& arena) const { return context(*ops_, arena); }
  /// On another device than the model's own: one that only counts.
  LayerContext context(Ops& ops, Arena& arena) const { return {ops, arena, config_, rotary_table_, interruption_}; }

  /// Called before every layer of every pass and before every tensor that `init` fills: what it throws ends the work
  /// there. To be set between passes; empty: nothing.
  void set_interruption(std::function<void()> interruption) { interruption_ = std::move(interruption); }

  /// N(0, initializer_range) for every matrix, 1 for norms, from a counter-based stream of (seed, tensor): the same
  /// weights on every device.
  void init(uint64_t seed);
  /// Host float32 values of parameter `index` (rounded to compute dtype) or back.
  void set(size_t index, const float* values);
  void get(size_t index, float* values) const;

  size_t memory_bytes() const;

 private:
  ModelConfig config_;
  std::unique_ptr<Ops> ops_;
  Parameters parameters_;
  size_t weight_bytes_;
  void* weights_;
  Arena tables_;
  ModelTensors tensors_;
  Tensor rotary_table_, balancing_bias_;
  uint64_t weights_version_ = 0;
  std::function<void()> interruption_;
};

/// Host values into a device tensor of compute or master dtype, rounded as it needs, and back.
void upload(Ops& ops, const float* values, const Tensor& tensor);
void upload(Ops& ops, const double* values, const Tensor& tensor);
void download(Ops& ops, const Tensor& tensor, float* values);
void download(Ops& ops, const Tensor& tensor, double* values);

}  // namespace mor
