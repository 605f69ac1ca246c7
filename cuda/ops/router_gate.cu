// router_gate on the GPU: one thread for each row.
#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "ops/checks/router_gate.h"

namespace mor::cuda {

namespace {

__device__ __forceinline__ float activate(Activation activation, float score) {
  return activation == Activation::sigmoid ? 1.0f / (1.0f + expf(-score)) : tanhf(score);
}

struct RouterGate {
  const float* scores;   ///< [P]
  const int32_t* index;  ///< [R]
  Activation activation;
  float alpha;
  float* gate;  ///< [R]

  __device__ void operator()(int64_t, int64_t i) const {
    gate[i] = alpha * activate(activation, scores[row_of(index, i)]);
  }
};

struct RouterGateBackward {
  const float* d_gate;   ///< [R]
  const float* scores;   ///< [P]
  const int32_t* index;  ///< [R], distinct
  Activation activation;
  float alpha;
  float* d_scores;  ///< [P]

  __device__ void operator()(int64_t, int64_t i) const {
    const int64_t p = row_of(index, i);
    const float a = activate(activation, scores[p]);
    d_scores[p] += d_gate[i] * alpha * (activation == Activation::sigmoid ? a * (1.0f - a) : 1.0f - a * a);
  }
};

}  // namespace

void CudaOps::router_gate_forward(const Tensor& scores, const int32_t* index, Activation activation, double alpha,
                                  const Tensor& gate) {
  check_router_gate(scores, index, activation, gate);
  for_each<1>(stream_, 1, gate.count(),
              RouterGate{scores.as<float>(), index, activation, static_cast<float>(alpha), gate.as<float>()});
}

void CudaOps::router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index,
                                   Activation activation, double alpha, const Tensor& d_scores) {
  check_router_gate_backward(d_gate, scores, index, activation, d_scores);
  for_each<1>(stream_, 1, d_gate.count(),
              RouterGateBackward{d_gate.as<float>(), scores.as<float>(), index, activation, static_cast<float>(alpha),
                                 d_scores.as<float>()});
}

}  // namespace mor::cuda
