// router_gate on the CPU: one number for each row.
#include "ops/checks/router_gate.h"

#include <cmath>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {
constexpr int64_t kNanosecondsPerRow = 12;

float activate(Activation activation, float score) {
  return activation == Activation::sigmoid ? 1 / (1 + std::exp(-score)) : std::tanh(score);
}
}  // namespace

void CpuOps::router_gate_forward(const Tensor& scores, const int32_t* index, Activation activation, double alpha,
                                 const Tensor& gate) {
  check_router_gate(scores, index, activation, gate);
  const float *s = scores.as<float>(), scale = static_cast<float>(alpha);
  float* g = gate.as<float>();
  parallel_for(gate.count(), kNanosecondsPerRow,
               [&](int64_t i) { g[i] = scale * activate(activation, s[index == nullptr ? i : index[i]]); });
}

void CpuOps::router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index,
                                  Activation activation, double alpha, const Tensor& d_scores) {
  check_router_gate_backward(d_gate, scores, index, activation, d_scores);
  const float *dg = d_gate.as<float>(), *s = scores.as<float>(), scale = static_cast<float>(alpha);
  float* ds = d_scores.as<float>();
  parallel_for(d_gate.count(), kNanosecondsPerRow, [&](int64_t i) {
    const int64_t p = index == nullptr ? i : index[i];
    const float a = activate(activation, s[p]);
    ds[p] += dg[i] * scale * (activation == Activation::sigmoid ? a * (1 - a) : 1 - a * a);
  });
}

}  // namespace mor::MOR_CPU_ISA
