// rotary: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_rotary(const Tensor& x, const Tensor& table, int direction) {
  const int64_t head_dim = table.columns();
  check_shape("rotary", x, x.rows(), x.columns());
  check_shape("rotary", table, table.rows(), head_dim);
  MOR_CHECK(head_dim > 0 && head_dim % 2 == 0 && x.columns() % head_dim == 0, INVALID_ARGUMENT, "rotary: ", x.name,
            " has ", x.columns(), " columns, but whole heads of the table's ", head_dim,
            " (an even number) are needed");
  MOR_CHECK(direction == 1 || direction == -1, INVALID_ARGUMENT, "rotary: direction is ", direction,
            ", but 1 (forward) or -1 (backward) is needed");
}

}  // namespace mor
