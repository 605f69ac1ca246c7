// qkv on the CPU: the product straight to where q, k and v lie side by side, else to scratch memory and from there, in
// the pass that turns it, to where its rows belong. Must not know how products are computed.
#include "ops/checks/qkv.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/rotary.h"

namespace mor::MOR_CPU_ISA {

namespace {

bool beside(const Tensor& left, const Tensor& right) {
  const int64_t bytes = left.columns() * static_cast<int64_t>(dtype_size(left.dtype));
  return static_cast<char*>(left.data) + bytes == right.data && left.row_stride == right.row_stride;
}

/// The rows of q with as many columns of the buffer it lies in.
Tensor from_queries_on(const Tensor& q, int64_t columns) {
  Tensor all = make_tensor(q.data, q.dtype, q.rows(), columns, "q, k and v");
  all.row_stride = q.row_stride;
  return all;
}

}  // namespace

void CpuOps::qkv_forward(const Tensor& x, const Tensor& weight, const int32_t* position, const Tensor& table,
                         const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot) {
  check_qkv_forward(x, weight, table, q, k, v, slot);
  const int64_t head_dim = table.columns(), query = q.columns(), key_value = k ? k.columns() : 0;
  if (!k || (slot == nullptr && beside(q, k) && beside(k, v))) {
    linear_forward(x, weight, {}, from_queries_on(q, weight.rows()));
    rotary(from_queries_on(q, query + key_value), position, table, +1);
    return;
  }
  const Arena::Mark mark = scratch_.mark();
  const Tensor product = scratch_.tensor(compute_, x.rows(), weight.rows(), "product");
  linear_forward(x, weight, {}, product);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(x.rows(), product.columns() / 8 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = product.as<T>() + i * product.row_stride;
        const float* angles = table.as<float>() + position[i] * table.row_stride;
        const int64_t to = slot == nullptr ? i : slot[i];
        turn_heads(row, q.as<T>() + i * q.row_stride, query, head_dim, angles, 1);
        if (to < 0) continue;
        turn_heads(row + query, k.as<T>() + to * k.row_stride, key_value, head_dim, angles, 1);
        std::copy_n(row + query + key_value, key_value, v.as<T>() + to * v.row_stride);
      }
    });
  });
  scratch_.release(mark);
}

}  // namespace mor::MOR_CPU_ISA
