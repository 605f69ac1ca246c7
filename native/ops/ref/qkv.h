// qkv: specification.
#pragma once

#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// The heads of one row, each as a row.
inline Tensor heads_of(const Tensor& tensor, int64_t row, int64_t head_dim) {
  Tensor heads = tensor.slice(row, 1);
  heads.shape[0] = tensor.columns() / head_dim;
  heads.shape[1] = heads.row_stride = head_dim;
  heads.rank = 2;
  return heads;
}

/// The columns of x weight^T + bias are q's heads, then k's, then v's. The heads of q and k are normalised and rotated.
/// Every head is written to its row, unless the slot is negative.
template <class T>
void RefOps<T>::qkv_forward(const Tensor& x, const QkvTensors& weights, double epsilon, const int32_t* position,
                            const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot,
                            const Tensor& projected) {
  const int64_t columns = weights.weight.rows(), query = q.columns(), key_value = k ? k.columns() : 0;
  std::vector<T> memory(static_cast<size_t>(x.rows() * columns));
  const Tensor product = make_tensor(memory.data(), dtype_of<T>, x.rows(), columns, "product");
  const Tensor of_q = product.column_range(0, query), of_k = product.column_range(query, key_value);
  RefOps::linear_forward(x, weights.weight, weights.bias.repeated(x.rows()), product);
  if (projected) RefOps::kv_write(product, nullptr, projected);
  for (int64_t i = 0; i < x.rows() && weights.q_norm; ++i) {
    const Tensor q_heads = heads_of(of_q, i, table.columns()), k_heads = heads_of(of_k, i, table.columns());
    RefOps::rmsnorm_forward(q_heads, nullptr, weights.q_norm, epsilon, {}, q_heads, {});
    RefOps::rmsnorm_forward(k_heads, nullptr, weights.k_norm, epsilon, {}, k_heads, {});
  }
  RefOps::rotary(product.column_range(0, query + key_value), position, table, +1);
  RefOps::kv_write(of_q, nullptr, q);
  if (!k) return;
  for (int64_t i = 0; i < x.rows(); ++i) {
    const int32_t to = static_cast<int32_t>(row(slot, i));
    if (to < 0) continue;
    RefOps::kv_write(of_k.slice(i, 1), &to, k);
    RefOps::kv_write(product.column_range(query + key_value, key_value).slice(i, 1), &to, v);
  }
}

/// The backward of each step of the forward, from the last to the first: rotary, rmsnorm of each head, and the bias,
/// whose gradient is the sum over the rows.
template <class T>
void RefOps<T>::qkv_backward(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& projected,
                             const QkvTensors& weights, double epsilon, const int32_t* position, const Tensor& table,
                             const QkvTensors& gradients) {
  int64_t first = 0;  // column of x weight^T
  const auto part = [&](const Tensor& d, const Tensor& norm, const Tensor& d_norm, bool rotated) {
    if (rotated) RefOps::rotary(d, position, table, -1);
    for (int64_t i = 0; i < d.rows() && norm; ++i) {
      const Tensor d_heads = heads_of(d, i, table.columns());
      const Tensor x = heads_of(projected.column_range(first, d.columns()), i, table.columns());
      std::vector<T> normed(static_cast<size_t>(d.columns())), d_x(normed), rstd(static_cast<size_t>(x.rows()));
      const Tensor d_x_heads = make_tensor(d_x.data(), dtype_of<T>, x.rows(), x.columns(), "d_x");
      const Tensor rstds = make_vector(rstd.data(), dtype_of<T>, x.rows(), "rstd");
      RefOps::rmsnorm_forward(x, nullptr, norm, epsilon, {},
                              make_tensor(normed.data(), dtype_of<T>, x.rows(), x.columns(), "normed"), rstds);
      RefOps::rmsnorm_backward(d_heads, x, norm, rstds, d_x_heads, d_norm);
      RefOps::kv_write(d_x_heads, nullptr, d_heads);
    }
    for (int64_t i = 0; i < d.rows() && gradients.bias; ++i)
      for (int64_t j = 0; j < d.columns(); ++j) gradients.bias.as<T>()[first + j] += View<T>(d)(i, j);
    first += d.columns();
  };
  part(d_q, weights.q_norm, gradients.q_norm, true);
  if (!d_k) return;
  part(d_k, weights.k_norm, gradients.k_norm, true);
  part(d_v, {}, {}, false);
}

}  // namespace mor::ref
