// qkv: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"
#include "ops/ops.h"

namespace mor {

/// q and, unless both are empty, k and v must consist of whole heads, and k and v of equally many. Returns how many
/// columns the three have together.
inline int64_t check_qkv_heads(const char* op, const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t head_dim = table.columns();
  MOR_CHECK(head_dim > 0 && head_dim % 2 == 0, INVALID_ARGUMENT, op, ": ", table.name, " has ", head_dim,
            " columns, but heads of an even number are needed");
  const auto check_heads = [&](const Tensor& tensor) {
    MOR_CHECK(tensor.columns() % head_dim == 0, INVALID_ARGUMENT, op, ": ", tensor.name, " has ", tensor.columns(),
              " columns, but whole heads of the table's ", head_dim, " are needed");
  };
  check_heads(q);
  if (!k && !v) return q.columns();
  check_shape(op, k, k.rows(), v.columns());
  check_shape(op, v, k.rows(), k.columns());
  check_heads(k);
  return q.columns() + 2 * k.columns();
}

inline void check_both_or_neither(const char* op, const char* name, const Tensor& a, const char* other,
                                  const Tensor& b) {
  MOR_CHECK(bool(a) == bool(b), INVALID_ARGUMENT, op, ": ", name, " has ", a.count(), " elements, but ", other, " ",
            b.count(), "; give both or neither");
}

/// bias [columns] may be empty; so may q_norm and k_norm [head_dim], but only both.
inline void check_qkv_vectors(const char* op, const QkvTensors& tensors, int64_t columns, int64_t head_dim) {
  check_both_or_neither(op, "q_norm", tensors.q_norm, "k_norm", tensors.k_norm);
  if (tensors.bias) check_vector(op, tensors.bias, columns);
  for (const Tensor* norm : {&tensors.q_norm, &tensors.k_norm})
    if (*norm) check_vector(op, *norm, head_dim);
}

/// The slots lie in device memory and are not checked: the caller promises that they are negative, or distinct and
/// inside k and v.
inline void check_qkv_forward(const Tensor& x, const QkvTensors& weights, const Tensor& table, const Tensor& q,
                              const Tensor& k, const Tensor& v, const int32_t* slot, const Tensor& projected) {
  const char* op = "qkv_forward";
  const int64_t rows = x.rows(), columns = check_qkv_heads(op, table, q, k, v);
  check_shape(op, q, rows, q.columns());
  MOR_CHECK(!k || slot != nullptr || k.rows() >= rows, INVALID_ARGUMENT, op, ": ", k.name, " has ", k.rows(),
            " rows, but without slots ", rows, " are needed");
  check_shape(op, x, rows, weights.weight.columns());
  check_shape(op, weights.weight, columns, x.columns());
  check_qkv_vectors(op, weights, columns, table.columns());
  if (projected) check_shape(op, projected, rows, columns);
}

inline void check_qkv_backward(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& projected,
                               const QkvTensors& weights, const Tensor& table, const QkvTensors& gradients) {
  const char* op = "qkv_backward";
  const int64_t rows = d_q.rows(), columns = check_qkv_heads(op, table, d_q, d_k, d_v);
  check_shape(op, d_q, rows, d_q.columns());
  if (d_k) check_shape(op, d_k, rows, d_k.columns());
  check_qkv_vectors(op, weights, columns, table.columns());
  check_qkv_vectors(op, gradients, columns, table.columns());
  check_both_or_neither(op, "bias", weights.bias, "its gradient", gradients.bias);
  check_both_or_neither(op, "q_norm", weights.q_norm, "its gradient", gradients.q_norm);
  if (weights.q_norm) check_shape(op, projected.named("projected"), rows, columns);
}

}  // namespace mor
