// rotary on the CPU, in place. The angles of a row are read from the table once for all of its heads.
#include "cpu/rotary.h"

#include "cpu/cpu_ops.h"
#include "ops/checks/rotary.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) {
  check_rotary(x, table, direction);
  const int64_t columns = x.columns();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(x.rows(), columns / 8 + 1, [&](int64_t i) {
      T* row = row_of<T>(x, i);
      rotate_heads(row, row, columns, table.columns(), row_of<float>(table, position[i]),
                   static_cast<float>(direction));
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
