// kv_write on the CPU: copies rows to their slots.
#include "ops/checks/kv_write.h"

#include <algorithm>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) {
  check_kv_write(x, cache);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(x.rows(), x.columns() / 8 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::copy_n(x.as<T>() + i * x.row_stride, x.columns(),
                    cache.as<T>() + (slot == nullptr ? i : slot[i]) * cache.row_stride);
    });
  });
}

void CpuOps::kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) {
  check_kv_write_backward(d_cache, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(d_x.rows(), d_x.columns() / 4 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        T* from = d_cache.as<T>() + (slot == nullptr ? i : slot[i]) * d_cache.row_stride;
        std::copy_n(from, d_x.columns(), d_x.as<T>() + i * d_x.row_stride);
        std::fill_n(from, d_x.columns(), T{});
      }
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
