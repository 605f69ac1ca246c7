// Model: allocation, initialisation, and host access to the weights. Must not know of optimisers, batches or requests.
#include "model/model.h"

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "model/host_values.h"

namespace mor {

namespace {

template <class T, class Value>
void upload_as(Ops& ops, const Value* values, const Tensor& tensor) {
  std::vector<T> host(static_cast<size_t>(tensor.count()));
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<T>(values[i]);
  ops.copy_to_device(tensor.data, host.data(), host.size() * sizeof(T));
}

template <class Value>
void upload_values(Ops& ops, const Value* values, const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::float32:
      return upload_as<float>(ops, values, tensor);
    case DType::bfloat16:
      return upload_as<bfloat16>(ops, values, tensor);
    case DType::float64:
      return upload_as<double>(ops, values, tensor);
    case DType::complex128:
      return upload_as<std::complex<double>>(ops, values, tensor);
    default:
      MOR_FAIL(INTERNAL, tensor.name, " is ", dtype_name(tensor.dtype), ", which holds no weights");
  }
}

/// cos | sin of position * theta^(-2j/hd), computed in double.
std::vector<double> rotary_angles(const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  std::vector<double> table(static_cast<size_t>(config.max_position_embeddings) * static_cast<size_t>(2 * half));
  for (int64_t position = 0; position < config.max_position_embeddings; ++position)
    for (int64_t j = 0; j < half; ++j) {
      const double angle =
          static_cast<double>(position) *
          std::pow(config.rope_theta, -2.0 * static_cast<double>(j) / static_cast<double>(config.head_dim));
      table[static_cast<size_t>(position * 2 * half + j)] = std::cos(angle);
      table[static_cast<size_t>(position * 2 * half + half + j)] = std::sin(angle);
    }
  return table;
}

template <class Value>
void download_values(Ops& ops, const Tensor& tensor, Value* values) {
  std::vector<uint8_t> host(static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype));
  ops.copy_to_host(host.data(), tensor.data, host.size());
  read_host_values(tensor, host.data(), values);
}

}  // namespace

void upload(Ops& ops, const float* values, const Tensor& tensor) {
  upload_values(ops, values, tensor);
}

void upload(Ops& ops, const double* values, const Tensor& tensor) {
  upload_values(ops, values, tensor);
}
void download(Ops& ops, const Tensor& tensor, float* values) {
  download_values(ops, tensor, values);
}
void download(Ops& ops, const Tensor& tensor, double* values) {
  download_values(ops, tensor, values);
}

Model::Model(const ModelConfig& config, std::unique_ptr<Ops> ops)
    : config_(config),
      ops_(std::move(ops)),
      parameters_(config),
      weight_bytes_(static_cast<size_t>(parameters_.size()) * dtype_size(ops_->compute_dtype())),
      weights_(ops_->allocate(weight_bytes_)),
      tables_(*ops_),
      tensors_(parameters_.views(weights_, ops_->compute_dtype())) {
  ops_->zero(weights_, weight_bytes_);
  rotary_table_ = tables_.tensor(ops_->master_dtype(), config.max_position_embeddings, config.head_dim, "rotary table");
  upload(*ops_, rotary_angles(config).data(), rotary_table_);
  if (config.router.type == RouterType::token_choice && config.router.loss_free_balancing) {
    balancing_bias_ = tables_.vector(ops_->master_dtype(), config.num_recursions, "model.router.balancing_bias");
    zero(*ops_, balancing_bias_);
  }
}

Model::~Model() {
  ops_->release(weights_, weight_bytes_);
}

void Model::init(uint64_t seed) {
  for (size_t index = 0; index < parameters_.list().size(); ++index) {
    if (interruption_) interruption_();
    const Parameter& p = parameters_.list()[index];
    std::vector<float> values(static_cast<size_t>(p.count() + 3), 1.0f);
    if (!p.vector)
      for (int64_t i = 0; i < p.count(); i += 2) {
        const Philox4 bits = philox(seed, index, static_cast<uint64_t>(i / 2));
        float normals[2];
        normal_from_bits(bits.v[0], bits.v[1], &normals[0], &normals[1]);
        for (int64_t j = 0; j < 2; ++j)
          values[static_cast<size_t>(i + j)] = normals[j] * static_cast<float>(config_.initializer_range);
      }
    set(index, values.data());
  }
  if (balancing_bias_) zero(*ops_, balancing_bias_);
}

namespace {
Tensor parameter_tensor(const Model& model, size_t index) {
  const Parameter& p = model.parameters().list()[index];
  const DType compute = model.ops().compute_dtype();
  return make_tensor(static_cast<char*>(model.weights()) + p.offset * static_cast<int64_t>(dtype_size(compute)),
                     compute, p.rows, p.columns, p.name.c_str());
}
}  // namespace

void Model::set(size_t index, const float* values) {
  weights_changed();
  upload(*ops_, values, parameter_tensor(*this, index));
}
void Model::get(size_t index, float* values) const {
  download(*ops_, parameter_tensor(*this, index), values);
}

size_t Model::memory_bytes() const {
  return weight_bytes_ + tables_.capacity();
}

}  // namespace mor
