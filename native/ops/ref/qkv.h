// qkv: specification. Must not be fast.
#pragma once

#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// The columns of x weight^T are q's heads, then k's, then v's; q and k are turned, and each goes to its row; keys and
/// values of negative slots go nowhere.
template <class T>
void RefOps<T>::qkv_forward(const Tensor& x, const Tensor& weight, const int32_t* position, const Tensor& table,
                            const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot) {
  std::vector<T> memory(static_cast<size_t>(x.rows() * weight.rows()));
  const Tensor product = make_tensor(memory.data(), dtype_of<T>::value, x.rows(), weight.rows(), "product");
  const int64_t query = q.columns(), key_value = k ? k.columns() : 0;
  RefOps::linear_forward(x, weight, {}, product);
  RefOps::rotary(product.column_range(0, query + key_value), position, table, +1);
  RefOps::kv_write(product.column_range(0, query), nullptr, q);
  if (!k) return;
  for (int64_t i = 0; i < x.rows(); ++i) {
    const int32_t to = static_cast<int32_t>(row(slot, i));
    if (to < 0) continue;
    RefOps::kv_write(product.column_range(query, key_value).slice(i, 1), &to, k);
    RefOps::kv_write(product.column_range(query + key_value, key_value).slice(i, 1), &to, v);
  }
}

}  // namespace mor::ref
