// gather_rows, add_rows and scatter_gated on the CPU: one pass over the rows.
#include "ops/checks/rows.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_gather_rows(x, source, y);
  with_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(y.rows(), y.columns() / 8 + 1,
                 [&](int64_t i) { std::copy_n(row_of<T>(x, source, i), y.columns(), row_of<T>(y, i)); });
  });
}

void CpuOps::add_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_add_rows(x, source, y);
  with_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    parallel_for(x.rows(), x.columns() / 8 + 1, [&](int64_t i) {
      const T* from = row_of<T>(x, i);
      T* to = row_of<T>(y, source, i);
      for_lanes(x.columns(),
                [&](int64_t j, auto part) { part.store(to + j, part.load(to + j) + part.load(from + j)); });
    });
  });
}

void CpuOps::scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                                   const Tensor& stream) {
  check_scatter_gated_forward(x, from, gate, stream);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(gate.count(), x.columns() / 8 + 1, [&](int64_t i) {
      const float g = gate.as<float>()[i];
      const T* x_i = row_of<T>(x, from, i);
      T* stream_i = row_of<T>(stream, to, i);
      for_lanes(x.columns(), [&](int64_t j, auto part) {
        part.store(stream_i + j, part.load(stream_i + j) + g * part.load(x_i + j));
      });
    });
  });
}

void CpuOps::scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                                    const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) {
  check_scatter_gated_backward(d_stream, x, from, gate, d_x, d_gate);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(gate.count(), x.columns() / 4 + 1, [&](int64_t i) {
      const float g = gate.as<float>()[i];
      const T* d_i = row_of<T>(d_stream, to, i);
      const T* x_i = row_of<T>(x, from, i);
      T* d_x_i = row_of<T>(d_x, from, i);
      Vec dot[2] = {};  // two sums: they round less than one long sum, and do not wait for each other
      for_lanes(x.columns(), [&](int64_t j, auto part) {
        const Vec d = part.load(d_i + j);
        dot[j / kLanes % 2] += d * part.load(x_i + j);
        part.store(d_x_i + j, g * d);
      });
      d_gate.as<float>()[i] = sum(dot[0] + dot[1]);
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
