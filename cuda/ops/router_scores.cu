// router_scores on the GPU: products with few outputs, bound by reading x.
// Bytes: forward reads R·d elements (once more, from L1, for every further kOutputs outputs); backward reads x, and
// reads and writes d_x.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/partials.cuh"
#include "cuda/tile/reduce.cuh"
#include "ops/checks/router_scores.h"

namespace mor::cuda {

namespace {

constexpr int kOutputs = 4;  // outputs that are summed in one pass over a row
constexpr unsigned kWarpsPerBlock = 8, kColumnThreads = 128;
constexpr int64_t kRowsPerPart = 8, kMostParts = 512;

/// One warp for each row.
template <int N, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    router_scores_kernel(int64_t rows, int64_t d, int outputs, Matrix<const T> x /*[M,d]*/,
                         const int32_t* source /*[R]*/, Matrix<const T> weight /*[n,d]*/,
                         Matrix<float> scores /*[R,n]*/) {
  wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (row >= rows) return;
  const T* x_row = x.at(row_of(source, row));
  const unsigned lane = threadIdx.x % 32;
  for (int first = 0; first < outputs; first += kOutputs) {
    float dot[kOutputs] = {};
    for (int64_t column = lane * N; column < d; column += 32 * N) {
      float value[N], w[N];
      load(value, x_row + column);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o)
        if (first + o < outputs) {
          load(w, weight.at(first + o, column));
#pragma unroll
          for (int i = 0; i < N; ++i) dot[o] += value[i] * w[i];
        }
    }
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float sum = warp_sum(dot[o]);
      if (lane == 0 && first + o < outputs) *scores.at(row, first + o) = sum;
    }
  }
}

template <int N, class T>
struct AddInputGradient {
  int outputs;
  Matrix<const float> d_scores;  ///< [R,n]
  Matrix<const T> weight;        ///< [n,d]
  const int32_t* source;         ///< [R], distinct
  Matrix<T> d_x;                 ///< [M,d]

  __device__ void operator()(int64_t row, int64_t column) const {
    float sum[N] = {}, w[N];
    for (int o = 0; o < outputs; ++o) {
      const float d = *d_scores.at(row, o);
      load(w, weight.at(o, column));
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += d * w[i];
    }
    T* target = d_x.at(row_of(source, row), column);
    load(w, target);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] += w[i];
    store(target, sum);
  }
};

/// Block (column block, part, output group) sums its columns over every gridDim.y-th row.
template <int N, class T>
__global__ void __launch_bounds__(kColumnThreads)
    router_scores_weight_kernel(int64_t rows, int64_t d, int outputs, Matrix<const float> d_scores /*[R,n]*/,
                                Matrix<const T> x /*[M,d]*/, const int32_t* source /*[R]*/,
                                float* partial /*[parts,n,d]*/) {
  wait_for_earlier_kernels();
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x) * N;
  const int first = static_cast<int>(blockIdx.z) * kOutputs;
  if (column >= d) return;
  float sum[kOutputs][N] = {};
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float value[N];
    load(value, x.at(row_of(source, row), column));
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float score = first + o < outputs ? *d_scores.at(row, first + o) : 0.0f;
#pragma unroll
      for (int i = 0; i < N; ++i) sum[o][i] += score * value[i];
    }
  }
#pragma unroll
  for (int o = 0; o < kOutputs; ++o)
    if (first + o < outputs)
      store(partial + (static_cast<int64_t>(blockIdx.y) * outputs + first + o) * d + column, sum[o]);
}

}  // namespace

void CudaOps::router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight,
                                    const Tensor& scores) {
  check_router_scores_forward(x, source, weight, scores);
  const int outputs = static_cast<int>(weight.rows());
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(x.columns(), {&x, &weight}, [&](auto width) {
      constexpr int N = width();
      launch(router_scores_kernel<N, T>, dim3(blocks_for(scores.rows(), kWarpsPerBlock)), dim3(32 * kWarpsPerBlock), 0,
             stream_, scores.rows(), x.columns(), outputs, matrix_of<const T>(x), source, matrix_of<const T>(weight),
             matrix_of<float>(scores));
    });
  });
}

void CudaOps::router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                     const Tensor& weight, const Tensor& d_x, const Tensor& d_weight) {
  check_router_scores_backward(d_scores, x, source, weight, d_x, d_weight);
  const int64_t rows = d_scores.rows(), d = x.columns();
  const int outputs = static_cast<int>(weight.rows());
  const int64_t parts = std::min((rows + kRowsPerPart - 1) / kRowsPerPart, kMostParts);
  const ArenaScope scope(scratch_);
  float* partial = scratch_.tensor(DType::float32, parts, outputs * d, "partial d_weight").as<float>();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d, {&x, &weight, &d_x}, [&](auto width) {
      constexpr int N = width();
      const dim3 grid(blocks_for(d, kColumnThreads * N), static_cast<unsigned>(parts),
                      static_cast<unsigned>((outputs + kOutputs - 1) / kOutputs));
      launch(router_scores_weight_kernel<N, T>, grid, dim3(kColumnThreads), 0, stream_, rows, d, outputs,
             matrix_of<const float>(d_scores), matrix_of<const T>(x), source, partial);
      if (!d_x) return;
      for_each<N>(stream_, rows, d,
                  AddInputGradient<N, T>{outputs, matrix_of<const float>(d_scores), matrix_of<const T>(weight), source,
                                         matrix_of<T>(d_x)});
    });
  });
  add_partials(stream_, partial, parts, outputs * d, d_weight.as<float>(), d, d_weight.row_stride);
}

}  // namespace mor::cuda
