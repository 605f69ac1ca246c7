// global_norm and adamw on the GPU: one pass each over the flat buffers, bound by memory. Must not know of other ops.
// Bytes an element: global_norm reads 4; adamw reads 16 and writes 12 + the compute dtype's size.
#include <algorithm>
#include <cstring>

#include "cuda/cuda_ops.h"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/adamw.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMostNormBlocks = 1024;
constexpr int64_t kStretch = 8192;  // elements of one adamw block
constexpr int kWidth = 4;

/// Squares in double: 1e20 squared is no infinity there, and no bits of many small ones are lost.
template <int N>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(int64_t n, const float* gradient /*[n]*/, double* partial /*[blocks]*/) {
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
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += kThreads) sum += partial[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *norm = static_cast<float>(sqrt(sum));
}

/// A segment, and the first of the blocks that deal with it.
struct SegmentRow {
  int64_t offset, count, first_block;
  float weight_decay, learning_rate_scale;
};

struct Elements {
  float* master;
  const float* gradient;
  float *exp_avg, *exp_avg_sq;
};

/// What all segments have in common; see ops/ref/adamw.h for the formulas.
struct Update {
  double learning_rate, correction1, gradient_clip;
  float beta1, rest1, beta2, rest2;  ///< rest = 1 - beta
  float correction2, epsilon;
};

template <int N, class T>
__device__ __forceinline__ void update(const Elements& e, T* weights, int64_t i, const Update& u, float gradient_scale,
                                       float keep, float rate) {
  float w[N], g[N], m[N], v[N];
  load(w, e.master + i);
  load(g, e.gradient + i);
  load(m, e.exp_avg + i);
  load(v, e.exp_avg_sq + i);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    g[j] *= gradient_scale;
    m[j] = u.beta1 * m[j] + u.rest1 * g[j];
    v[j] = u.beta2 * v[j] + u.rest2 * g[j] * g[j];
    w[j] = keep * w[j] - rate * m[j] / (sqrtf(v[j] * u.correction2) + u.epsilon);
  }
  store(e.exp_avg + i, m);
  store(e.exp_avg_sq + i, v);
  store(e.master + i, w);
  store(weights + i, w);
}

/// One launch for all segments: block b finds its segment in the table and updates kStretch of its elements.
template <int N, class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(const Elements elements, T* weights, const float* norm,
                                                         const SegmentRow* table, int32_t segments, const Update u) {
  const double all = static_cast<double>(*norm);
  if (!(fabs(all) <= 1.7976931348623157e308)) return;  // a non-finite norm changes nothing
  const double scale = u.gradient_clip > 0 ? fmin(1.0, u.gradient_clip / (all + 1e-6)) : 1.0;
  int32_t low = 0, high = segments;  // the last segment whose first block is not after this one
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (table[middle].first_block <= blockIdx.x ? low : high) = middle;
  }
  const SegmentRow segment = table[low];
  const double lr = u.learning_rate * static_cast<double>(segment.learning_rate_scale);
  const float keep = static_cast<float>(1.0 - lr * static_cast<double>(segment.weight_decay));
  const float rate = static_cast<float>(lr * u.correction1), gradient_scale = static_cast<float>(scale);
  // Stretches begin at multiples of N, so that vectors are aligned; the first and the last one may reach beyond the
  // segment.
  const int64_t begin = segment.offset, end = segment.offset + segment.count;
  const int64_t first = begin / N * N + (blockIdx.x - segment.first_block) * kStretch;
  const int64_t last = first + kStretch < end ? first + kStretch : end;
  for (int64_t i = first + threadIdx.x * N; i < last; i += kThreads * N) {
    if (i >= begin && i + N <= last) {
      update<N>(elements, weights, i, u, gradient_scale, keep, rate);
    } else {
      for (int64_t j = i < begin ? begin : i; j < i + N && j < last; ++j)
        update<1>(elements, weights, j, u, gradient_scale, keep, rate);
    }
  }
}

bool same(const std::vector<ParameterSegment>& known, const ParameterSegment* segments, int32_t count) {
  if (known.size() != static_cast<size_t>(count)) return false;
  return std::equal(known.begin(), known.end(), segments, [](const ParameterSegment& a, const ParameterSegment& b) {
    return a.offset == b.offset && a.count == b.count && a.weight_decay == b.weight_decay &&
           a.learning_rate_scale == b.learning_rate_scale;
  });
}

/// Blocks that a segment needs, its begin moved down to a multiple of kWidth.
int64_t blocks_of(const ParameterSegment& segment) {
  return (segment.count + segment.offset % kWidth + kStretch - 1) / kStretch;
}

}  // namespace

void CudaOps::global_norm(const Tensor& gradient, const Tensor& norm) {
  check_global_norm(gradient, norm);
  const int64_t n = gradient.count();
  const ScratchScope scope(scratch_);
  with_width<float>(n, {&gradient}, [&](auto width) {
    constexpr int N = width();
    const int64_t blocks = std::min<int64_t>(blocks_for(n, kThreads * N), kMostNormBlocks);
    auto* partial = static_cast<double*>(scratch_.allocate(static_cast<size_t>(blocks) * sizeof(double)));
    launch(squares_kernel<N>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream_, n, gradient.as<float>(),
           partial);
    launch(norm_kernel, dim3(1), dim3(kThreads), 0, stream_, blocks, partial, norm.as<float>());
  });
}

void CudaOps::adamw(const Tensor& master, const Tensor& weights, const Tensor& gradient, const Tensor& exp_avg,
                    const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments,
                    int32_t segment_count, const AdamWParams& params) {
  check_adamw(master, weights, gradient, exp_avg, exp_avg_sq, norm, segments, segment_count, params);
  int64_t blocks = 0;
  for (int32_t s = 0; s < segment_count; ++s) blocks += blocks_of(segments[s]);
  if (blocks == 0) return;
  // The table goes to the device once: it is the same at every step of a training.
  if (!same(segments_, segments, segment_count)) {
    std::vector<SegmentRow> rows;
    int64_t first_block = 0;
    for (int32_t s = 0; s < segment_count; ++s) {
      const ParameterSegment& segment = segments[s];
      if (segment.count == 0) continue;  // no block would be its own
      rows.push_back({segment.offset, segment.count, first_block, segment.weight_decay, segment.learning_rate_scale});
      first_block += blocks_of(segment);
    }
    segments_.clear();
    release(std::exchange(segment_table_, nullptr), segment_table_bytes_);
    segment_table_bytes_ = rows.size() * sizeof(SegmentRow);
    segment_table_ = allocate(segment_table_bytes_);
    copy_to_device(segment_table_, rows.data(), segment_table_bytes_);
    segments_.assign(segments, segments + segment_count);
  }
  const AdamWScalars scalars = adamw_scalars(params, 0);  // of the norm the device takes care
  const Update u{params.learning_rate,
                 scalars.correction1,
                 params.gradient_clip,
                 static_cast<float>(params.beta1),
                 static_cast<float>(1 - params.beta1),
                 static_cast<float>(params.beta2),
                 static_cast<float>(1 - params.beta2),
                 static_cast<float>(scalars.correction2),
                 static_cast<float>(params.epsilon)};
  const Elements elements{master.as<float>(), gradient.as<float>(), exp_avg.as<float>(), exp_avg_sq.as<float>()};
  const auto* table = static_cast<const SegmentRow*>(segment_table_);
  const auto rows = static_cast<int32_t>(segment_table_bytes_ / sizeof(SegmentRow));
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    // Vectors of 4 floats: flat buffers that begin at 16 bytes have them aligned everywhere.
    with_width<float>(kWidth, {&master, &weights, &gradient, &exp_avg, &exp_avg_sq}, [&](auto width) {
      launch(adamw_kernel<width(), T>, dim3(blocks_for(blocks, 1)), dim3(kThreads), 0, stream_, elements,
             weights.as<T>(), norm.as<float>(), table, rows, u);
    });
  });
}

}  // namespace mor::cuda
