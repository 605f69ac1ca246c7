// distillation on the GPU, for one chunk of rows after another, like cross_entropy: linear computes the logits of both
// models, one block for each row their softmaxes and the gradient, and linear the gradients of rows and weights.
// Bytes for each pair of logits beside the four products: 8 written by linear, 24 read in three passes, 2 or 4 written.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/logit_chunk.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/checks/distillation.h"

namespace mor::cuda {

namespace {

constexpr unsigned kMostThreads = 512;
constexpr float kLeast = -3.402823466e38f;  // the least finite number

/// What is the same for all rows.
struct Factors {
  float temperature, cold;  ///< T and 1 / T
  float loss;               ///< loss_scale
  float divergence;         ///< divergence_scale T
};

/// With s and t the logits of student and teacher, each less its largest one: losses[row] = logsumexp(s) - s[target],
/// and divergences[row] = T^2 KL. Their gradient replaces the row's logits, as elements of T that begin at the row's
/// first byte: loss (softmax(s)_j - [j = target]) + divergence (softmax(s / T)_j - softmax(t / T)_j).
template <int N, class T>
__global__ void __launch_bounds__(kMostThreads)
    distillation_kernel(int64_t vocabulary, float* logits /*[rows,V]*/, const float* teacher_logits /*[rows,V]*/,
                        const int32_t* target /*[rows]*/, int64_t first_row, const Factors factors,
                        float* losses /*[rows]*/, float* divergences /*[rows]*/, Fault* fault) {
  wait_for_earlier_kernels();
  const int64_t row = blockIdx.x;
  float* logit = logits + row * vocabulary;
  const float* teacher_logit = teacher_logits + row * vocabulary;
  T* d_logit = reinterpret_cast<T*>(logit);
  const int32_t wanted = target[row];
  float s[N], t[N];
  if (wanted < 0 || wanted >= vocabulary) {
    if (threadIdx.x == 0) {
      losses[row] = divergences[row] = 0;
      if (wanted != -1)
        report(fault, FaultKind::target_outside_vocabulary, static_cast<int32_t>(first_row + row), wanted,
               static_cast<int32_t>(vocabulary));
    }
#pragma unroll
    for (int i = 0; i < N; ++i) s[i] = 0;
    for (int64_t j = threadIdx.x * N; j < vocabulary; j += blockDim.x * N) store(d_logit + j, s);
    return;
  }
  float most_s = kLeast, most_t = kLeast;
  for (int64_t j = threadIdx.x * N; j < vocabulary; j += blockDim.x * N) {
    load(s, logit + j);
    load(t, teacher_logit + j);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      most_s = fmaxf(most_s, s[i]);
      most_t = fmaxf(most_t, t[i]);
    }
  }
  most_s = block_reduce(most_s, Max{}, kLeast);
  most_t = block_reduce(most_t, Max{}, kLeast);
  float sum = 0, tempered = 0, teacher = 0, difference = 0, product = 0;
  for (int64_t j = threadIdx.x * N; j < vocabulary; j += blockDim.x * N) {
    load(s, logit + j);
    load(t, teacher_logit + j);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s_less = s[i] - most_s, t_less = t[i] - most_t;
      const float p = expf(t_less * factors.cold), q = expf(s_less * factors.cold);
      sum += expf(s_less);
      tempered += q;
      teacher += p;
      difference += q - p;
      product += p * (t_less - s_less);
    }
  }
  sum = block_sum(sum);
  tempered = block_sum(tempered);
  teacher = block_sum(teacher);
  difference = block_sum(difference);
  product = block_sum(product);
  if (threadIdx.x == 0) {
    losses[row] = most_s - logit[wanted] + logf(sum);
    // The second term is log(tempered / teacher), which at high temperatures is far smaller than either logarithm.
    const float divergence = product * factors.cold / teacher + log1pf(difference / teacher);
    divergences[row] = factors.temperature * factors.temperature * divergence;
  }
  const float of_loss = factors.loss / sum, of_teacher = factors.divergence / teacher;
  const float ratio = teacher / tempered;  // 1 if both models have the same logits: then the difference is 0
  for (int64_t stripe = 0; stripe < vocabulary; stripe += blockDim.x * N) {
    const int64_t j = stripe + threadIdx.x * N;
    if (j < vocabulary) {
      load(s, logit + j);
      load(t, teacher_logit + j);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float s_less = s[i] - most_s, t_less = t[i] - most_t;
        s[i] = of_loss * expf(s_less) - (j + i == wanted ? factors.loss : 0.0f) +
               of_teacher * (ratio * expf(s_less * factors.cold) - expf(t_less * factors.cold));
      }
    }
    __syncthreads();  // all threads have read the logits that the gradients of this stripe overwrite
    if (j < vocabulary) store(d_logit + j, s);
  }
}

}  // namespace

void CudaOps::distillation(const Tensor& x, const Tensor& weight, const Tensor& teacher_x, const Tensor& teacher_weight,
                           const int32_t* target, const DistillationParams& params, const Tensor& losses,
                           const Tensor& divergences, const Tensor& d_x, const Tensor& d_weight) {
  check_distillation(x, weight, teacher_x, teacher_weight, params, losses, divergences, d_x, d_weight);
  const int64_t vocabulary = weight.rows(), chunk = logit_rows(x.rows(), vocabulary);
  const auto temperature = static_cast<float>(params.temperature);
  const Factors factors{temperature, 1 / temperature, static_cast<float>(params.loss_scale),
                        static_cast<float>(params.divergence_scale) * temperature};
  const ArenaScope scope(scratch_);
  const Tensor all = scratch_.tensor(DType::float32, chunk, vocabulary, "logits");
  const Tensor all_of_teacher = scratch_.tensor(DType::float32, chunk, vocabulary, "teacher's logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t n = std::min(chunk, x.rows() - first);
    const Tensor rows = x.slice(first, n), logits = all.slice(0, n), teacher_logits = all_of_teacher.slice(0, n);
    linear_forward(rows, weight, {}, logits);
    linear_forward(teacher_x.slice(first, n), teacher_weight, {}, teacher_logits);
    const Tensor d_logits = logit_gradient(logits, compute_);
    with_type(compute_, [&](auto type) {
      with_width<float>(vocabulary, {&logits, &teacher_logits}, [&](auto width) {
        const int64_t vectors = vocabulary / width();
        const auto threads = static_cast<unsigned>(std::clamp<int64_t>((vectors + 31) / 32 * 32, 32, kMostThreads));
        launch(distillation_kernel<width(), decltype(type)>, dim3(blocks_for(n, 1)), dim3(threads), 0, stream_,
               vocabulary, logits.as<float>(), teacher_logits.as<float>(), target + first, first, factors,
               losses.as<float>() + first, divergences.as<float>() + first, fault_.device());
      });
    });
    linear_backward_input(d_logits, weight, d_x.slice(first, n));
    if (d_weight) linear_backward_weight(d_logits, rows, d_weight);
  }
}

}  // namespace mor::cuda
