// cross_entropy on the GPU: logits of a chunk of rows by linear, their softmax in one block a row, and back by linear;
// all logits are never stored at once. Must not know how linear computes.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/reduce.cuh"
#include "ops/cross_entropy.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 512;
constexpr int64_t kChunkElements = int64_t{1} << 25;  // logits of one chunk: 128 MiB of float

/// losses[row] = logsumexp(logits) - logits[target]; where gradient is given,
/// gradient[row, j] = scale * (softmax_j - [j = target]).
template <class T>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(int64_t vocabulary, const float* logits /*[rows,V]*/, const int32_t* target /*[rows]*/,
                         int64_t first_row, float scale, float* losses /*[rows]*/, T* gradient /*[rows,V] or null*/,
                         Fault* fault) {
  const int64_t row = blockIdx.x;
  const float* logit = logits + row * vocabulary;
  T* d_logit = gradient == nullptr ? nullptr : gradient + row * vocabulary;
  const int32_t t = target[row];
  if (t < 0 || t >= vocabulary) {
    if (threadIdx.x == 0) {
      losses[row] = 0;
      if (t != -1)
        report(fault, FaultKind::target_outside_vocabulary, static_cast<int32_t>(first_row + row), t,
               static_cast<int32_t>(vocabulary));
    }
    if (d_logit != nullptr)
      for (int64_t j = threadIdx.x; j < vocabulary; j += kThreads) d_logit[j] = from_float<T>(0.0f);
    return;
  }
  float most = -INFINITY, sum = 0;
  for (int64_t j = threadIdx.x; j < vocabulary; j += kThreads) most = fmaxf(most, logit[j]);
  most = block_reduce(most, Max{}, -INFINITY);
  for (int64_t j = threadIdx.x; j < vocabulary; j += kThreads) sum += expf(logit[j] - most);
  sum = block_sum(sum);
  if (threadIdx.x == 0) losses[row] = most - logit[t] + logf(sum);
  if (d_logit == nullptr) return;
  const float factor = scale / sum;
  for (int64_t j = threadIdx.x; j < vocabulary; j += kThreads)
    d_logit[j] = from_float<T>(factor * expf(logit[j] - most) - (j == t ? scale : 0.0f));
}

/// Rows whose logits make one chunk.
int64_t chunk_rows(int64_t rows, int64_t vocabulary) {
  return std::max<int64_t>(1, std::min(rows, kChunkElements / vocabulary));
}

}  // namespace

void CudaOps::cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target,
                                    const Tensor& losses) {
  check_cross_entropy_forward(x, weight, losses);
  const int64_t vocabulary = weight.rows(), chunk = chunk_rows(x.rows(), vocabulary);
  const ScratchScope scope(scratch_);
  const Tensor all = scratch_.tensor(DType::float32, chunk, vocabulary, "logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t n = std::min(chunk, x.rows() - first);
    linear_forward(x.slice(first, n), weight, {}, all.slice(0, n));
    launch(cross_entropy_kernel<float>, dim3(blocks_for(n, 1)), dim3(kThreads), 0, stream_, vocabulary, all.as<float>(),
           target + first, first, 0.0f, losses.as<float>() + first, static_cast<float*>(nullptr), fault_.device());
  }
}

void CudaOps::cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                     const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) {
  check_cross_entropy_backward(x, weight, losses, d_x, d_weight);
  const int64_t vocabulary = weight.rows(), chunk = chunk_rows(x.rows(), vocabulary);
  const ScratchScope scope(scratch_);
  const Tensor all = scratch_.tensor(DType::float32, chunk, vocabulary, "logits");
  const Tensor gradient = scratch_.tensor(compute_, chunk, vocabulary, "d_logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t n = std::min(chunk, x.rows() - first);
    const Tensor rows = x.slice(first, n), d_logits = gradient.slice(0, n);
    linear_forward(rows, weight, {}, all.slice(0, n));
    with_type(compute_, [&](auto type) {
      using T = decltype(type);
      launch(cross_entropy_kernel<T>, dim3(blocks_for(n, 1)), dim3(kThreads), 0, stream_, vocabulary, all.as<float>(),
             target + first, first, static_cast<float>(scale), losses.as<float>() + first, gradient.as<T>(),
             fault_.device());
    });
    linear_backward_input(d_logits, weight, d_x.slice(first, n));
    linear_backward_weight(d_logits, rows, d_weight);
  }
}

}  // namespace mor::cuda
