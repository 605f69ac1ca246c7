// qkv on the CPU. Forward: the product is written where q, k and v lie if they lie side by side, otherwise to other
// memory. One pass over its rows then normalises and rotates the heads and writes them where they belong. Backward: one
// pass over the gradients, in place.
#include "ops/checks/qkv.h"

#include <algorithm>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/rmsnorm.h"
#include "cpu/rotary.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// Whether the columns of `right` follow those of `left` in the same buffer.
bool are_neighbours(const Tensor& left, const Tensor& right) {
  const int64_t bytes = left.columns() * static_cast<int64_t>(dtype_size(left.dtype));
  return static_cast<char*>(left.data) + bytes == right.data && left.row_stride == right.row_stride;
}

/// The first `columns` columns of the buffer that begins with q.
Tensor from_queries_on(const Tensor& q, int64_t columns) {
  Tensor all = make_tensor(q.data, q.dtype, q.rows(), columns, "q, k and v");
  all.row_stride = q.row_stride;
  return all;
}

template <class T>
T* data_or_null(const Tensor& tensor) {
  return tensor ? tensor.as<T>() : nullptr;
}

/// Writes the heads of `from`, normalised unless `norm` is null and then rotated, to `to`, which may be `from`. Each
/// step rounds to T.
template <class T>
void normalize_and_rotate(const T* from, T* to, int64_t columns, int64_t head_dim, const T* norm, double epsilon,
                          const float* angles) {
  if (norm != nullptr) {
    for (int64_t head = 0; head < columns; head += head_dim)
      normalize_row<T>(from + head, norm, reciprocal_rms(from + head, head_dim, epsilon), head_dim, nullptr, to + head);
    from = to;
  }
  rotate_heads(from, to, columns, head_dim, angles, 1);
}

/// Turns d, the gradient of what normalize_and_rotate writes, into the gradient of x, from which normalize_and_rotate
/// computes it. Adds to d_norm [head_dim] and d_bias [columns]. d_bias may be null, and so may norm, together with x
/// and d_norm.
template <class T>
void backward_heads(T* d, int64_t columns, int64_t head_dim, const float* angles, const T* x, const T* norm,
                    double epsilon, float* d_norm, float* d_bias) {
  for (int64_t first = 0; first < columns; first += head_dim, d += head_dim) {
    const auto rotated_back = [&](const auto& put) { rotate_head(d, head_dim, angles, -1, put); };
    float rstd = 1, mean = 0;  // of ops/ref/rmsnorm.h
    if (norm != nullptr) {
      Vec dot = {};
      rstd = reciprocal_rms(x + first, head_dim, epsilon);
      rotated_back([&](int64_t j, auto part, Vec g) {
        const Vec gn = g * part.load(x + first + j) * rstd;
        dot += gn * part.load(norm + j);
        part.store(d_norm + j, part.load(d_norm + j) + gn);
      });
      mean = sum(dot) / static_cast<float>(head_dim);
    }
    rotated_back([&](int64_t j, auto part, Vec g) {
      if (norm != nullptr) g = rstd * (g * part.load(norm + j) - part.load(x + first + j) * (rstd * mean));
      if (d_bias != nullptr) part.store(d_bias + first + j, part.load(d_bias + first + j) + g);
      part.store(d + j, g);
    });
  }
}

constexpr int64_t kRowsPerPartial = 32;  // rows of a stretch, whose sums are added in order

/// Adds `count` vectors of n floats, `stride` floats apart, to `to`, in order.
void add_in_order(const float* from, int64_t count, int64_t stride, int64_t n, float* to) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < n; ++j) to[j] += from[i * stride + j];
}

}  // namespace

void CpuOps::qkv_forward(const Tensor& x, const QkvTensors& weights, double epsilon, const int32_t* position,
                         const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot,
                         const Tensor& projected) {
  check_qkv_forward(x, weights, table, q, k, v, slot, projected);
  const int64_t columns = weights.weight.rows(), head_dim = table.columns();
  const int64_t query = q.columns(), key_value = k ? k.columns() : 0;
  const bool in_place = !projected && (!k || (slot == nullptr && are_neighbours(q, k) && are_neighbours(k, v)));
  const ArenaScope scope(scratch_);
  const Tensor product = in_place    ? from_queries_on(q, columns)
                         : projected ? projected
                                     : scratch_.tensor(compute_, x.rows(), columns, "product");
  linear_forward(x, weights.weight, weights.bias.repeated(x.rows()), product);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const T *q_norm = data_or_null<T>(weights.q_norm), *k_norm = data_or_null<T>(weights.k_norm);
    parallel_for(x.rows(), columns / (q_norm == nullptr ? 8 : 2) + 1, [&](int64_t i) {
      const T* row = row_of<T>(product, i);
      const float* angles = row_of<float>(table, position[i]);
      const int64_t to = slot == nullptr ? i : slot[i];
      normalize_and_rotate(row, row_of<T>(q, i), query, head_dim, q_norm, epsilon, angles);
      if (!k || to < 0) return;
      normalize_and_rotate(row + query, row_of<T>(k, to), key_value, head_dim, k_norm, epsilon, angles);
      if (!in_place) std::copy_n(row + query + key_value, key_value, row_of<T>(v, to));
    });
  });
}

void CpuOps::qkv_backward(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& projected,
                          const QkvTensors& weights, double epsilon, const int32_t* position, const Tensor& table,
                          const QkvTensors& gradients) {
  check_qkv_backward(d_q, d_k, d_v, projected, weights, table, gradients);
  if (!weights.bias && !weights.q_norm) {
    rotary(d_q, position, table, -1);
    if (d_k) rotary(d_k, position, table, -1);
    return;
  }
  const int64_t rows = d_q.rows(), head_dim = table.columns();
  const int64_t query = d_q.columns(), key_value = d_k ? d_k.columns() : 0;
  // One stretch has the sums of d_bias, then of d_q_norm and of d_k_norm.
  const int64_t bias = weights.bias ? query + 2 * key_value : 0, norm = weights.q_norm ? head_dim : 0;
  const int64_t sums = bias + 2 * norm, stretches = stretches_of(rows, kRowsPerPartial);
  const ArenaScope scope(scratch_);
  const Tensor partial = scratch_.tensor(DType::float32, stretches, sums, "partial gradients");
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const T *q_norm = data_or_null<T>(weights.q_norm), *k_norm = data_or_null<T>(weights.k_norm);
    const int64_t cost = kRowsPerPartial * ((query + key_value) / 2 + 1);
    parallel_stretches(rows, kRowsPerPartial, cost, [&](int64_t stretch, int64_t begin, int64_t end) {
      float* d_bias = row_of<float>(partial, stretch);
      float *d_q_norm = d_bias + bias, *d_k_norm = d_q_norm + norm;
      std::memset(d_bias, 0, static_cast<size_t>(sums) * sizeof(float));
      for (int64_t i = begin; i < end; ++i) {
        const float* angles = row_of<float>(table, position[i]);
        const auto heads_from = [&](int64_t first, const Tensor& d, const T* weight, float* d_weight) {
          const T* x = weight == nullptr ? nullptr : row_of<T>(projected, i) + first;
          backward_heads(row_of<T>(d, i), d.columns(), head_dim, angles, x, weight, epsilon, d_weight,
                         bias == 0 ? nullptr : d_bias + first);
        };
        heads_from(0, d_q, q_norm, d_q_norm);
        if (!d_k) continue;
        heads_from(query, d_k, k_norm, d_k_norm);
        if (bias == 0) continue;
        const T* d_v_row = row_of<T>(d_v, i);
        float* d_v_bias = d_bias + query + key_value;
        for_lanes(key_value, [&](int64_t j, auto part) {
          part.store(d_v_bias + j, part.load(d_v_bias + j) + part.load(d_v_row + j));
        });
      }
    });
  });
  const float* first = partial.as<float>();
  if (bias > 0) add_in_order(first, stretches, sums, bias, gradients.bias.as<float>());
  if (norm > 0) add_in_order(first + bias, stretches, sums, norm, gradients.q_norm.as<float>());
  if (norm > 0 && d_k) add_in_order(first + bias + norm, stretches, sums, norm, gradients.k_norm.as<float>());
}

}  // namespace mor::MOR_CPU_ISA
