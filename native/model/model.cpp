// Model: allocation, initialisation, and host access to the weights.
#include "model/model.h"

#include <utility>

#include "core/rng.h"
#include "model/host_values.h"
#include "model/rotary.h"

namespace mor {

namespace {

/// normal: two numbers from each draw of the stream.
std::vector<float> initial_values(const Parameter& p, uint64_t seed, uint64_t stream, float range) {
  std::vector<float> values(static_cast<size_t>(p.count()) + 1, p.initializer == Initializer::ones ? 1.0f : 0.0f);
  if (p.initializer != Initializer::normal) return values;
  for (size_t i = 0; i + 1 < values.size(); i += 2) {
    const Philox4 bits = philox(seed, stream, i / 2);
    normal_from_bits(bits.v[0], bits.v[1], &values[i], &values[i + 1]);
    values[i] *= range;
    values[i + 1] *= range;
  }
  return values;
}

}  // namespace

void check_weights_fit(const ModelConfig& config, DType compute, size_t device_bytes) {
  const double weights = static_cast<double>(Parameters(config, compute, DType::float32).bytes());
  const double rotary = static_cast<double>(config.max_position_embeddings) * config.head_dim * sizeof(double);
  MOR_CHECK(device_bytes == 0 || weights + rotary <= static_cast<double>(device_bytes), OUT_OF_MEMORY,
            "the weights take ", (weights + rotary) / 1e9, " GB as ", dtype_name(compute), ", and the device has ",
            static_cast<double>(device_bytes) / 1e9, " GB");
}

Model::Model(const ModelConfig& config, std::unique_ptr<Ops> ops)
    : config_(config),
      ops_(std::move(ops)),
      parameters_(config, ops_->compute_dtype(), ops_->master_dtype()),
      memory_(*ops_) {
  const std::vector<double> table = rotary_table(config.rotary, config.head_dim, config.max_position_embeddings);
  memory_.reserve(parameters_.bytes() + table.size() * dtype_size(ops_->master_dtype()));
  weights_ = memory_.allocate(parameters_.bytes());
  ops_->zero(weights_, parameters_.bytes());
  tensors_ = parameters_.weights(weights_);
  rotary_table_ = memory_.tensor(ops_->master_dtype(), config.max_position_embeddings, config.head_dim, "rotary table");
  upload(*ops_, table.data(), rotary_table_);
}

std::vector<NamedTensor> Model::checkpoint_tensors() const {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : parameters_.list()) tensors.push_back({p.name, p.in_weights(weights_)});
  return tensors;
}

void Model::init(uint64_t seed) {
  for (size_t index = 0; index < parameters_.list().size(); ++index) {
    if (interruption_) interruption_();
    const auto range = static_cast<float>(config_.initializer_range);
    set(index, initial_values(parameters_.list()[index], seed, index, range).data());
  }
}

void Model::set(size_t index, const float* values) {
  weights_changed();
  upload(*ops_, values, parameters_.list()[index].in_weights(weights_));
}
void Model::get(size_t index, float* values) const {
  download(*ops_, parameters_.list()[index].in_weights(weights_), values);
}

}  // namespace mor
