// cast on the CPU.
#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"
#include "ops/checks/rows.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::cast(const Tensor& from, const Tensor& to) {
  check_cast(from, to);
  const int64_t columns = from.columns();
  with_type(from.dtype, [&](auto from_type) {
    with_type(to.dtype, [&](auto to_type) {
      parallel_for(from.rows(), columns / 8 + 1, [&](int64_t i) {
        const auto* x = row_of<decltype(from_type)>(from, i);
        auto* y = row_of<decltype(to_type)>(to, i);
        for_lanes(columns, [&](int64_t j, auto part) { part.store(y + j, part.load(x + j)); });
      });
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
