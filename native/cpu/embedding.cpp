// embedding on the CPU: rows are copied; each thread sums the gradients of some columns, in row order.
#include "ops/checks/embedding.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::embedding_forward(const int32_t* tokens, const Tensor& weight, const Tensor& out) {
  check_embedding_forward(weight, out);
  gather_rows(weight, tokens, out);
}

void CpuOps::embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) {
  check_embedding_backward(d_out, d_weight);
  const int64_t rows = d_out.rows(), d = d_out.columns();
  // A token may occur twice, so threads share out columns instead of rows; every sum then keeps the order of the rows.
  const int64_t strips = (d + kLanes - 1) / kLanes;
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(strips, rows * 4 + 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * kLanes, n = std::min(d, end * kLanes) - first;
      for (int64_t i = 0; i < rows; ++i) {
        const T* from = row_of<T>(d_out, i) + first;
        float* to = row_of<float>(d_weight, tokens[i]) + first;
        for_lanes(n, [&](int64_t j, auto part) { part.store(to + j, part.load(to + j) + part.load(from + j)); });
      }
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
