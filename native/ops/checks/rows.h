// cast, gather_rows, add_rows, scatter_gated: the shapes they accept, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_cast(const Tensor& from, const Tensor& to) {
  MOR_CHECK(from.rows() == to.rows() && from.columns() == to.columns(), INVALID_ARGUMENT, "cast: ", from.name, " is ",
            from.rows(), " x ", from.columns(), ", ", to.name, " is ", to.rows(), " x ", to.columns());
}

/// Row numbers lie in device memory: that they are in range (and distinct, where they are written to) is the caller's
/// promise.
inline void check_gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_shape("gather_rows", x, source == nullptr ? y.rows() : x.rows(), y.columns());
  check_shape("gather_rows", y, y.rows(), x.columns());
}

inline void check_add_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_shape("add_rows", x, x.rows(), y.columns());
  check_shape("add_rows", y, source == nullptr ? x.rows() : y.rows(), x.columns());
}

inline void check_scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate,
                                        const Tensor& stream) {
  check_shape("scatter_gated_forward", x, from == nullptr ? gate.count() : x.rows(), stream.columns());
  check_vector("scatter_gated_forward", gate, gate.count());
  check_shape("scatter_gated_forward", stream, stream.rows(), x.columns());
}

inline void check_scatter_gated_backward(const Tensor& d_stream, const Tensor& x, const int32_t* from,
                                         const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) {
  check_shape("scatter_gated_backward", d_stream, d_stream.rows(), x.columns());
  check_shape("scatter_gated_backward", x, from == nullptr ? gate.count() : x.rows(), x.columns());
  check_vector("scatter_gated_backward", gate, gate.count());
  check_shape("scatter_gated_backward", d_x, x.rows(), x.columns());
  check_vector("scatter_gated_backward", d_gate, gate.count());
}

}  // namespace mor
