// cross_entropy on the GPU, for one chunk of rows after another, so that the logits of all rows are never stored at
// once: linear computes logits, one block for each row computes their softmax, and linear the gradients.
// Bytes for each logit beside the three products: 4 written by linear, 4 read for the loss; for the gradient 4 read
// again and 2 or 4 written. Every chunk reads and writes all of d_weight, so chunks are as large as memory allows.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/logit_chunk.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/checks/cross_entropy.h"

namespace mor::cuda {

namespace {

constexpr unsigned kMostThreads = 512;
constexpr float kLeast = -3.402823466e38f;  // the least finite number, so that kLeast - kLeast is 0

/// losses[row] = logsumexp(logits) - logits[target]. With `gradient`, scale * (softmax_j - [j = target]) replaces the
/// row's logits, as elements of T that begin at the row's first byte.
template <int N, class T, bool gradient>
__global__ void __launch_bounds__(kMostThreads)
    cross_entropy_kernel(int64_t vocabulary, float* logits /*[rows,V]*/, const int32_t* target /*[rows]*/,
                         int64_t first_row, float scale, float* losses /*[rows]*/, Fault* fault) {
  wait_for_earlier_kernels();
  const int64_t row = blockIdx.x;
  float* logit = logits + row * vocabulary;
  const int32_t t = target[row];
  const bool counts = t >= 0 && t < vocabulary;
  if (!counts && threadIdx.x == 0) {
    losses[row] = 0;
    if (t != -1)
      report(fault, FaultKind::target_outside_vocabulary, static_cast<int32_t>(first_row + row), t,
             static_cast<int32_t>(vocabulary));
  }
  [[maybe_unused]] T* d_logit = reinterpret_cast<T*>(logit);
  float value[N];
  if (!counts) {
    if constexpr (gradient) {
#pragma unroll
      for (int i = 0; i < N; ++i) value[i] = 0;
      for (int64_t j = threadIdx.x * N; j < vocabulary; j += blockDim.x * N) store(d_logit + j, value);
    }
    return;
  }
  float most = kLeast, sum = 0;  // of this thread's logits: the maximum, and the sum of exp(logit - most)
  for (int64_t j = threadIdx.x * N; j < vocabulary; j += blockDim.x * N) {
    load(value, logit + j);
    float larger = most;
#pragma unroll
    for (int i = 0; i < N; ++i) larger = fmaxf(larger, value[i]);
    if (larger > most) {
      sum *= expf(most - larger);
      most = larger;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) sum += expf(value[i] - most);
  }
  const float largest = block_reduce(most, Max{}, kLeast);
  sum = block_sum(sum * expf(most - largest));
  if (threadIdx.x == 0) losses[row] = largest - logit[t] + logf(sum);
  if constexpr (gradient) {
    const float factor = scale / sum;
    for (int64_t stripe = 0; stripe < vocabulary; stripe += blockDim.x * N) {
      const int64_t j = stripe + threadIdx.x * N;
      if (j < vocabulary) {
        load(value, logit + j);
#pragma unroll
        for (int i = 0; i < N; ++i) value[i] = factor * expf(value[i] - largest) - (j + i == t ? scale : 0.0f);
      }
      __syncthreads();  // all threads have read the logits that the gradients of this stripe overwrite
      if (j < vocabulary) store(d_logit + j, value);
    }
  }
}

template <class T, bool gradient>
void start(Stream& stream, const Tensor& logits, const int32_t* target, int64_t first_row, double scale, float* losses,
           Fault* fault) {
  with_width<float>(logits.columns(), {&logits}, [&](auto width) {
    const int64_t vectors = logits.columns() / width();
    const auto threads = static_cast<unsigned>(std::clamp<int64_t>((vectors + 31) / 32 * 32, 32, kMostThreads));
    launch(cross_entropy_kernel<width(), T, gradient>, dim3(blocks_for(logits.rows(), 1)), dim3(threads), 0, stream,
           logits.columns(), logits.as<float>(), target, first_row, static_cast<float>(scale), losses, fault);
  });
}

}  // namespace

void CudaOps::cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target,
                                    const Tensor& losses) {
  check_cross_entropy_forward(x, weight, losses);
  const int64_t vocabulary = weight.rows(), chunk = logit_rows(x.rows(), vocabulary);
  const ArenaScope scope(scratch_);
  const Tensor all = scratch_.tensor(DType::float32, chunk, vocabulary, "logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t n = std::min(chunk, x.rows() - first);
    const Tensor logits = all.slice(0, n);
    linear_forward(x.slice(first, n), weight, {}, logits);
    start<float, false>(stream_, logits, target + first, first, 0, losses.as<float>() + first, fault_.device());
  }
}

void CudaOps::cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                     const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) {
  check_cross_entropy_backward(x, weight, losses, d_x, d_weight);
  const int64_t vocabulary = weight.rows(), chunk = logit_rows(x.rows(), vocabulary);
  const ArenaScope scope(scratch_);
  const Tensor all = scratch_.tensor(DType::float32, chunk, vocabulary, "logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t n = std::min(chunk, x.rows() - first);
    const Tensor rows = x.slice(first, n), logits = all.slice(0, n);
    linear_forward(rows, weight, {}, logits);
    const Tensor d_logits = logit_gradient(logits, compute_);
    with_type(compute_, [&](auto type) {
      start<decltype(type), true>(stream_, logits, target + first, first, scale, losses.as<float>() + first,
                                  fault_.device());
    });
    linear_backward_input(d_logits, weight, d_x.slice(first, n));
    if (d_weight) linear_backward_weight(d_logits, rows, d_weight);
  }
}

}  // namespace mor::cuda
