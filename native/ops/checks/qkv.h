// qkv: the shapes it accepts, for every device. Must not know how it is computed.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

/// Slots lie in device memory: that they are distinct and inside k and v, or negative, is the caller's promise.
inline void check_qkv_forward(const Tensor& x, const Tensor& weight, const Tensor& table, const Tensor& q,
                              const Tensor& k, const Tensor& v, const int32_t* slot) {
  const char* op = "qkv_forward";
  const int64_t head_dim = table.columns(), rows = x.rows();
  MOR_CHECK(head_dim > 0 && head_dim % 2 == 0, INVALID_ARGUMENT, op, ": ", table.name, " has ", head_dim,
            " columns, but heads of an even number are needed");
  const auto check_heads = [&](const Tensor& tensor) {
    MOR_CHECK(tensor.columns() % head_dim == 0, INVALID_ARGUMENT, op, ": ", tensor.name, " has ", tensor.columns(),
              " columns, but whole heads of the table's ", head_dim, " are needed");
  };
  check_shape(op, q, rows, q.columns());
  check_heads(q);
  int64_t columns = q.columns();
  if (k || v) {
    check_shape(op, k, k.rows(), v.columns());
    check_shape(op, v, k.rows(), k.columns());
    check_heads(k);
    MOR_CHECK(slot != nullptr || k.rows() >= rows, INVALID_ARGUMENT, op, ": ", k.name, " has ", k.rows(),
              " rows, but without slots ", rows, " are needed");
    columns += 2 * k.columns();
  }
  check_shape(op, x, rows, weight.columns());
  check_shape(op, weight, columns, x.columns());
}

}  // namespace mor
