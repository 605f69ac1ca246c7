// Model: allocation, initialisation, and host access to the weights.
#include "model/model.h"

#include <algorithm>
#include <utility>

#include "core/rng.h"
#include "core/team.h"
#include "model/host_values.h"
#include "model/rotary.h"

namespace mor {

namespace {

constexpr int64_t kDrawnTogether = int64_t{1} << 14;  ///< elements that one thread draws at a time; even

/// Element i of `values` and the next one, if it is before `end`, are the two numbers of one draw of the stream.
template <class T>
void draw_normals(uint64_t seed, uint64_t stream, float range, int64_t begin, int64_t end, T* values) {
  for (int64_t i = begin; i < end; i += 2) {
    const Philox4 bits = philox(seed, stream, static_cast<uint64_t>(i / 2));
    float first, second;
    normal_from_bits(bits.v[0], bits.v[1], &first, &second);
    values[i] = static_cast<T>(first * range);
    if (i + 1 < end) values[i + 1] = static_cast<T>(second * range);
  }
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

void Model::init(uint64_t seed, int threads) {
  weights_changed();
  if (threads == 0) threads = usable_threads();
  const auto range = static_cast<float>(config_.initializer_range);
  for (size_t index = 0; index < parameters_.list().size(); ++index) {
    if (interruption_) interruption_();
    const Parameter& p = parameters_.list()[index];
    const Tensor weight = p.in_weights(weights_);
    with_element(weight, [&](auto element) {
      using T = decltype(element);
      std::vector<T> values(static_cast<size_t>(p.count()), static_cast<T>(p.initializer == Initializer::ones));
      if (p.initializer == Initializer::normal) {
        const int64_t parts = (p.count() + kDrawnTogether - 1) / kDrawnTogether;
        Team::of_process().run(parts, threads, [&](int64_t part, int) {
          const int64_t begin = part * kDrawnTogether, end = std::min(begin + kDrawnTogether, p.count());
          draw_normals(seed, index, range, begin, end, values.data());
        });
      }
      ops_->copy_to_device(weight.data, values.data(), values.size() * sizeof(T));
    });
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
