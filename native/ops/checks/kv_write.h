// kv_write: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

/// Slots lie in device memory: that they are distinct and inside the cache is the caller's promise.
inline void check_kv_write(const Tensor& x, const Tensor& cache) {
  check_shape("kv_write", x, x.rows(), cache.columns());
  check_shape("kv_write", cache, cache.rows(), x.columns());
}

inline void check_kv_write_backward(const Tensor& d_cache, const Tensor& d_x) {
  check_shape("kv_write_backward", d_cache, d_cache.rows(), d_x.columns());
  check_shape("kv_write_backward", d_x, d_x.rows(), d_cache.columns());
}

}  // namespace mor
