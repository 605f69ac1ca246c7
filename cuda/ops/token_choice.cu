// token_choice on the GPU: one thread for each row, which has few logits; the sums of blocks are added in order.

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/token_choice.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 256;

__device__ float logsumexp(const float* logits, int n) {
  float most = logits[0], sum = 0;
  for (int j = 1; j < n; ++j) most = fmaxf(most, logits[j]);
  for (int j = 0; j < n; ++j) sum += expf(logits[j] - most);
  return most + logf(sum);
}

/// A block's partial sums are n loads, n sums of p, and the sum of lse^2.
__global__ void __launch_bounds__(kThreads)
    token_choice_kernel(int64_t rows, int n, Matrix<const float> logits /*[R,N]*/, const float* bias /*[N]*/,
                        Activation activation, float alpha, Matrix<float> probabilities /*[R,N]*/,
                        int32_t* depth /*[R]*/, float* gate /*[R]*/, double* partial /*[blocks, 2N + 1]*/) {
  wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const bool mine = row < rows;
  const float* l = logits.at(row);
  float* p = probabilities.at(row);
  int best = 0;
  float lse = 0;
  if (mine) {
    lse = logsumexp(l, n);
    for (int j = 0; j < n; ++j) {
      p[j] = alpha * (activation == Activation::softmax ? expf(l[j] - lse) : 1.0f / (1.0f + expf(-l[j])));
      if (p[j] + bias[j] > p[best] + bias[best]) best = j;
    }
    depth[row] = best + 1;
    gate[row] = p[best];
  }
  double* sums = partial + static_cast<int64_t>(blockIdx.x) * (2 * n + 1);
  for (int j = 0; j < 2 * n + 1; ++j) {
    double value = 0;
    if (mine && j < n) value = best == j ? 1.0 : 0.0;
    if (mine && j >= n && j < 2 * n) value = static_cast<double>(p[j - n]);
    if (mine && j == 2 * n) value = static_cast<double>(lse) * static_cast<double>(lse);
    value = block_sum(value);
    if (threadIdx.x == 0) sums[j] = value;
  }
}

__global__ void __launch_bounds__(kThreads)
    token_choice_sums_kernel(int64_t blocks, int n, const double* partial, float* load, float* p_sum, float* z_sum) {
  wait_for_earlier_kernels();
  for (int j = static_cast<int>(threadIdx.x); j < 2 * n + 1; j += kThreads) {
    double sum = 0;
    for (int64_t block = 0; block < blocks; ++block) sum += partial[block * (2 * n + 1) + j];
    float& out = j < n ? load[j] : j < 2 * n ? p_sum[j - n] : z_sum[0];
    out = static_cast<float>(static_cast<double>(out) + sum);
  }
}

struct TokenChoiceBackward {
  int n;
  const float* d_gate;                        ///< [R]
  Matrix<const float> logits, probabilities;  ///< [R,N]
  const int32_t* depth;                       ///< [R]
  Activation activation;
  float inverse_alpha;
  const float* p_scale;  ///< [N]
  float z_scale;
  Matrix<float> d_logits;  ///< [R,N]

  __device__ void operator()(int64_t, int64_t i) const {
    const float *l = logits.at(i), *p = probabilities.at(i);
    float* dl = d_logits.at(i);
    const float lse = logsumexp(l, n), d = d_gate[i];
    const int chosen = depth[i] - 1;
    const auto d_p = [&](int j) { return p_scale[j] + (j == chosen ? d : 0.0f); };
    float mean = 0;
    for (int j = 0; j < n; ++j) mean += p[j] * inverse_alpha * d_p(j);
    for (int j = 0; j < n; ++j) {
      const float slope =
          activation == Activation::softmax ? p[j] * (d_p(j) - mean) : p[j] * (1.0f - p[j] * inverse_alpha) * d_p(j);
      dl[j] = slope + 2.0f * z_scale * lse * expf(l[j] - lse);
    }
  }
};

}  // namespace

void CudaOps::token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation, double alpha,
                                   const Tensor& probabilities, int32_t* depth, const Tensor& gate, const Tensor& load,
                                   const Tensor& p_sum, const Tensor& z_sum) {
  check_token_choice_forward(logits, bias, activation, probabilities, gate, load, p_sum, z_sum);
  const int n = static_cast<int>(logits.columns());
  const unsigned blocks = blocks_for(logits.rows(), kThreads);
  const ArenaScope scope(scratch_);
  auto* partial = scratch_.array<double>(int64_t{blocks} * (2 * n + 1));
  launch(token_choice_kernel, dim3(blocks), dim3(kThreads), 0, stream_, logits.rows(), n,
         matrix_of<const float>(logits), bias.as<float>(), activation, static_cast<float>(alpha),
         matrix_of<float>(probabilities), depth, gate.as<float>(), partial);
  if (blocks > 0)
    launch(token_choice_sums_kernel, dim3(1), dim3(kThreads), 0, stream_, static_cast<int64_t>(blocks), n, partial,
           load.as<float>(), p_sum.as<float>(), z_sum.as<float>());
}

void CudaOps::token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                                    const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                                    double z_scale, const Tensor& d_logits) {
  check_token_choice_backward(d_gate, logits, probabilities, activation, alpha, p_scale, d_logits);
  for_each<1>(
      stream_, 1, logits.rows(),
      TokenChoiceBackward{static_cast<int>(logits.columns()), d_gate.as<float>(), matrix_of<const float>(logits),
                          matrix_of<const float>(probabilities), depth, activation, static_cast<float>(1 / alpha),
                          p_scale.as<float>(), static_cast<float>(z_scale), matrix_of<float>(d_logits)});
}

}  // namespace mor::cuda
