// swiglu on the CPU. Forward: the product is written where the caller keeps it, otherwise to scratch memory, and one
// pass over its rows follows. Backward: one pass over the rows, bound by memory.
#include "ops/checks/swiglu.h"

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

void CpuOps::swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) {
  check_swiglu_forward(x, weight, gate_up, out);
  const int64_t f = out.columns();
  const ArenaScope scope(scratch_);
  const Tensor product = gate_up ? gate_up : scratch_.tensor(compute_, x.rows(), 2 * f, "gate_up");
  linear_forward(x, weight, {}, product);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(out.rows(), f / 4 + 1, [&](int64_t i) {
      const T* gate = row_of<T>(product, i);
      T* to = row_of<T>(out, i);
      for_lanes(f, [&](int64_t j, auto part) {
        const Vec g = part.load(gate + j);
        part.store(to + j, g * sigmoid(g) * part.load(gate + f + j));
      });
    });
  });
}

void CpuOps::swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) {
  check_swiglu_backward(d_out, gate_up, d_gate_up);
  const int64_t f = d_out.columns();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(d_out.rows(), f / 2 + 1, [&](int64_t i) {
      const T* d = row_of<T>(d_out, i);
      const T* gate = row_of<T>(gate_up, i);
      T* d_gate = row_of<T>(d_gate_up, i);
      for_lanes(f, [&](int64_t j, auto part) {
        const Vec g = part.load(gate + j), up = part.load(gate + f + j), d_j = part.load(d + j), s = sigmoid(g);
        part.store(d_gate + j, d_j * up * s * (1.0f + g * (1.0f - s)));
        part.store(d_gate + f + j, d_j * g * s);
      });
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
