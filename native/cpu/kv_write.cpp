// kv_write on the CPU: copies rows to their slots.
#include "ops/checks/kv_write.h"

#include <algorithm>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) {
  check_kv_write(x, cache);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(x.rows(), x.columns() / 8 + 1,
                 [&](int64_t i) { std::copy_n(row_of<T>(x, i), x.columns(), row_of<T>(cache, slot, i)); });
  });
}

void CpuOps::kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) {
  check_kv_write_backward(d_cache, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(d_x.rows(), d_x.columns() / 4 + 1, [&](int64_t i) {
      T* from = row_of<T>(d_cache, slot, i);
      std::copy_n(from, d_x.columns(), row_of<T>(d_x, i));
      std::fill_n(from, d_x.columns(), T{});
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
