// rotary on the CPU: in place, a row's angles read once from the table for all its heads. Must not know of other ops.
#include "ops/rotary.h"

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) {
  check_rotary(x, table, direction);
  const int64_t head_dim = table.columns(), half = head_dim / 2, columns = x.columns();
  const float sign = static_cast<float>(direction);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(x.rows(), columns / 8 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* cosine = table.as<float>() + position[i] * table.row_stride;
        const float* sine = cosine + half;
        T* row = x.as<T>() + i * x.row_stride;
        for (T* first = row; first < row + columns; first += head_dim) {
          T* second = first + half;
          for_lanes(half, [&](int64_t j, auto part) {
            const Vec a = part.load(first + j), b = part.load(second + j);
            const Vec c = part.load(cosine + j), s = part.load(sine + j) * sign;
            part.store(first + j, a * c - b * s);
            part.store(second + j, b * c + a * s);
          });
        }
      }
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
