// cast on the CPU.
#include "cpu/cpu_ops.h"
#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::cast(const Tensor& from, const Tensor& to) {
  MOR_CHECK(from.rows() == to.rows() && from.columns() == to.columns(), INVALID_ARGUMENT, "cast: ", from.name, " is ",
            from.rows(), " x ", from.columns(), ", ", to.name, " is ", to.rows(), " x ", to.columns());
  const int64_t columns = from.columns();
  with_type(from.dtype, [&](auto from_type) {
    with_type(to.dtype, [&](auto to_type) {
      const auto* source = from.as<decltype(from_type)>();
      auto* target = to.as<decltype(to_type)>();
      parallel(from.rows(), columns / 8 + 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto* x = source + i * from.row_stride;
          auto* y = target + i * to.row_stride;
          int64_t j = 0;
          for (; j + kLanes <= columns; j += kLanes) store(y + j, load(x + j));
          if (j < columns) store_first(y + j, load_first(x + j, columns - j), columns - j);
        }
      });
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
