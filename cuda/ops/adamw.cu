// global_norm, reject_non_finite and adamw on the GPU: each is one pass over the buffers, bound by memory.
// Bytes for each element: global_norm reads 4; adamw reads 16, and writes 12 and the weight in its storage dtype.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/search.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/adamw_step.h"
#include "ops/checks/adamw.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMostNormBlocks = 1024;
constexpr int64_t kStretch = 8192;  // elements of a block of adamw
constexpr int kWidth = 4;

/// Sums squares in double, in which 1e20 squared is finite and many small squares add up exactly enough.
template <int N>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(int64_t n, const float* gradient /*[n]*/, double* partial /*[blocks]*/) {
  wait_for_earlier_kernels();
  double sum = 0;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N; i < n;
       i += static_cast<int64_t>(gridDim.x) * kThreads * N) {
    float g[N];
    load(g, gradient + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += static_cast<double>(g[j]) * static_cast<double>(g[j]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) norm_kernel(int64_t parts, const double* partial, float* norm) {
  wait_for_earlier_kernels();
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += kThreads) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

/// The flat buffers, one value of each for every element.
struct Elements {
  float* master;
  const float* gradient;
  float *exp_avg, *exp_avg_sq;
};

/// Where the weights of one segment lie.
struct Weights {
  uintptr_t element_zero;  ///< address that element 0 of the buffers would have if it belonged to the segment
  DType storage;
  bool separate;  ///< false: the masters themselves are the weights
  bool vectors;   ///< whether N weights that begin at a multiple of N elements of the buffers are aligned as a vector

  /// Rounds the masters of elements i .. i + N - 1 to the weights.
  template <int N>
  __device__ __forceinline__ void put(int64_t i, const float (&values)[N]) const {
    if (!separate) return;
    if (storage == DType::bfloat16)
      put_as<bf16>(i, values);
    else
      put_as<float>(i, values);
  }

 private:
  template <class T, int N>
  __device__ __forceinline__ void put_as(int64_t i, const float (&values)[N]) const {
    T* to = reinterpret_cast<T*>(element_zero + static_cast<uintptr_t>(i) * sizeof(T));
    if (vectors) {
      store(to, values);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) to[j] = from_float<T>(values[j]);
    }
  }
};

template <int N>
__device__ __forceinline__ Weights weights_of(const ParameterSegment& segment, void* weights, const float* master) {
  const uintptr_t size = segment.storage == DType::bfloat16 ? sizeof(bf16) : sizeof(float);
  const uintptr_t element_zero = reinterpret_cast<uintptr_t>(weights) + static_cast<uintptr_t>(segment.weight_offset) -
                                 static_cast<uintptr_t>(segment.offset) * size;
  const bool same = segment.storage == DType::float32 && element_zero == reinterpret_cast<uintptr_t>(master);
  return {element_zero, segment.storage, !same, element_zero % (N * size) == 0};
}

/// What is the same for all segments and steps. The formulas are in ops/ref/adamw.h.
struct Update {
  double gradient_clip;
  float beta1, rest1, beta2, rest2;  ///< rest = 1 - beta
  float epsilon;
};

/// What is the same for all elements of one segment in one step.
struct Rates {
  float gradient_scale, keep, rate, correction2;
};

/// Updates elements i .. i + N - 1.
template <int N>
__device__ __forceinline__ void update(const Elements& e, const Weights& weights, int64_t i, const Update& u,
                                       const Rates& r) {
  float w[N], g[N], m[N], v[N];
  load(w, e.master + i);
  load(g, e.gradient + i);
  load(m, e.exp_avg + i);
  load(v, e.exp_avg_sq + i);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    g[j] *= r.gradient_scale;
    m[j] = u.beta1 * m[j] + u.rest1 * g[j];
    v[j] = u.beta2 * v[j] + u.rest2 * g[j] * g[j];
    w[j] = r.keep * w[j] - r.rate * m[j] / (sqrtf(v[j] * r.correction2) + u.epsilon);
  }
  store(e.exp_avg + i, m);
  store(e.exp_avg_sq + i, v);
  store(e.master + i, w);
  weights.put(i, w);
}

/// One launch for all segments: every block updates those of its kStretch elements that belong to a segment.
template <int N>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(int64_t n, const Elements elements, void* weights, const float* norm, const AdamWStep* step,
                 const ParameterSegment* segments, int32_t segment_count, const Update u) {
  wait_for_earlier_kernels();
  const double all = static_cast<double>(*norm);
  if (!(fabs(all) <= 1.7976931348623157e308)) return;  // a non-finite norm changes nothing
  const double scale = u.gradient_clip > 0 ? fmin(1.0, u.gradient_clip / (all + 1e-6)) : 1.0;
  const int64_t begin = blockIdx.x * kStretch, end = begin + kStretch < n ? begin + kStretch : n;
  // The first segment that ends behind `begin`.
  const int32_t first =
      first_where(0, segment_count, [&](int32_t s) { return segments[s].offset + segments[s].count > begin; });
  for (int32_t s = first; s < segment_count && segments[s].offset < end; ++s) {
    const ParameterSegment segment = segments[s];
    const double lr = step->learning_rate * static_cast<double>(segment.learning_rate_scale);
    const Rates rates{static_cast<float>(scale),
                      static_cast<float>(1.0 - lr * static_cast<double>(segment.weight_decay)),
                      static_cast<float>(lr * step->correction1), static_cast<float>(step->correction2)};
    const Weights to_weights = weights_of<N>(segment, weights, elements.master);
    const int64_t from = segment.offset > begin ? segment.offset : begin;
    const int64_t to = segment.offset + segment.count < end ? segment.offset + segment.count : end;
    // Vectors begin at multiples of N, so that they are aligned. The first and the last may reach beyond the segment.
    for (int64_t i = from / N * N + threadIdx.x * N; i < to; i += kThreads * N) {
      if (i >= from && i + N <= to) {
        update<N>(elements, to_weights, i, u, rates);
      } else {
        for (int64_t j = i < from ? from : i; j < i + N && j < to; ++j) update<1>(elements, to_weights, j, u, rates);
      }
    }
  }
}

struct RejectNonFinite {
  const float* values;  ///< [n]
  float* norm;          ///< [1]
  __device__ void operator()(int64_t, int64_t i) const {
    if (!(fabsf(values[i]) <= 3.402823466e38f)) *norm = __uint_as_float(0x7fc00000u);
  }
};

}  // namespace

void CudaOps::global_norm(const Tensor& gradient, const Tensor& norm) {
  check_global_norm(gradient, norm);
  const int64_t n = gradient.count();
  const ArenaScope scope(scratch_);
  with_width<float>(n, {&gradient}, [&](auto width) {
    constexpr int N = width();
    const int64_t blocks = std::min<int64_t>(blocks_for(n, kThreads * N), kMostNormBlocks);
    auto* partial = scratch_.array<double>(blocks);
    launch(squares_kernel<N>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream_, n, gradient.as<float>(),
           partial);
    launch(norm_kernel, dim3(1), dim3(kThreads), 0, stream_, blocks, partial, norm.as<float>());
  });
}

void CudaOps::reject_non_finite(const Tensor& values, const Tensor& norm) {
  check_reject_non_finite(values, norm);
  for_each<1>(stream_, 1, values.count(), RejectNonFinite{values.as<float>(), norm.as<float>()});
}

void CudaOps::adamw(const Tensor& master, void* weights, const Tensor& gradient, const Tensor& exp_avg,
                    const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments,
                    int32_t segment_count, const AdamWParams& params, const AdamWStep* step) {
  check_adamw(master, gradient, exp_avg, exp_avg_sq, norm);
  const Update u{params.gradient_clip,
                 static_cast<float>(params.beta1),
                 static_cast<float>(1 - params.beta1),
                 static_cast<float>(params.beta2),
                 static_cast<float>(1 - params.beta2),
                 static_cast<float>(params.epsilon)};
  const Elements elements{master.as<float>(), gradient.as<float>(), exp_avg.as<float>(), exp_avg_sq.as<float>()};
  // If the flat buffers begin at multiples of 16 bytes, all their vectors of 4 floats are aligned.
  with_width<float>(kWidth, {&master, &gradient, &exp_avg, &exp_avg_sq}, [&](auto width) {
    launch(adamw_kernel<width()>, dim3(blocks_for(master.count(), kStretch)), dim3(kThreads), 0, stream_,
           master.count(), elements, weights, norm.as<float>(), step, segments, segment_count, u);
  });
}

}  // namespace mor::cuda
