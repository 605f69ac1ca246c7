// What tests of swiglu share: the forward in its forms, and what it should give.
#pragma once

#include "test/ops/perturb.h"

namespace mor::test {

struct SwigluForm {
  bool keeps = true;  ///< whether gate_up is kept
  int64_t gap = 0;    ///< elements between rows (apart)
};

/// inputs: x [R,d], weight [2f,d]. outputs: out, and gate_up if it is kept.
inline Forward swiglu_forward(const SwigluForm& form) {
  return [=](Ops& ops, const Arrays& in, const Step& step) -> Arrays {
    const DType compute = ops.compute_dtype();
    const int64_t rows = in[0].rows, d = in[0].columns, f = in[1].rows / 2;
    Buffer x(ops, compute, rows, d, "x", apart(d, form.gap));
    Buffer weight(ops, compute, 2 * f, d, "weight", apart(d, form.gap));
    const Buffer gate_up(ops, compute, rows, 2 * f, "gate_up", apart(2 * f, form.gap));
    const Buffer out(ops, compute, rows, f, "out", apart(f, form.gap));
    fill(x, in[0], 0, step);
    fill(weight, in[1], 1, step);
    ops.swiglu_forward(x.tensor(), weight.tensor(), form.keeps ? gate_up.tensor() : Tensor{}, out.tensor());
    if (!form.keeps) return {read(out, step)};
    return {read(out, step), read(gate_up, step)};
  };
}

/// silu(gate) * up, gate and up being the halves of gate_up, in arithmetic of T.
template <class T>
Array silu_times_up(const Array& gate_up) {
  Array out(gate_up.rows, gate_up.columns / 2);
  for (int64_t i = 0; i < out.rows; ++i)
    for (int64_t j = 0; j < out.columns; ++j) {
      const T gate = static_cast<T>(gate_up(i, j)), up = static_cast<T>(gate_up(i, out.columns + j));
      out(i, j) = gate * (1 / (1 + std::exp(-gate))) * up;
    }
  return out;
}

/// compare_with_reference for inputs x and weight. The naive op rounds gate_up to the precision, as the op must.
inline void expect_swiglu(const OpCall& call, const Array& x, const Array& weight, bool keeps) {
  const std::vector<bool> outputs(keeps ? 2 : 1, true);
  const auto expected_of = [&](DType compute) -> Expected {
    RefOps<double> exact_ops;
    RefOps<float> naive_ops;
    const Arrays start = rounded({x, weight}, {true, true}, compute);
    const Array gate_up = rounded(swiglu_forward({})(naive_ops, start, {})[1], compute);
    Expected expected{start, swiglu_forward({keeps})(exact_ops, start, {}), {silu_times_up<float>(gate_up)}};
    if (keeps) expected.naive.push_back(gate_up);
    return expected;
  };
  compare_with(expected_of, call, outputs);
}

}  // namespace mor::test
