// rmsnorm on the GPU. Forward: one warp for each row, which keeps the row in registers. Backward: one block for each
// row.
// Bytes: forward reads x and writes y, 2·R·d elements, and R·d more if it writes packed. Backward reads d_y and packed
// (twice what lies beyond one vector for each thread of a block), reads and writes d_packed, and writes 4·d bytes of
// partial sums for each block.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/partials.cuh"
#include "cuda/tile/reduce.cuh"
#include "cuda/tile/shared.cuh"
#include "ops/checks/rmsnorm.h"

namespace mor::cuda {

namespace {

constexpr unsigned kMostThreads = 256, kForwardWarps = 4;
// Of the backward kernel; kMostBlocks is 8 for each multiprocessor of an H200.
constexpr int64_t kRowsPerBlock = 4, kMostBlocks = 1056;

/// Threads of a block, in whole warps: as many as a row of d has vectors. It depends on d alone, and so the order of
/// sums does.
unsigned threads_for(int64_t d, int width) {
  return static_cast<unsigned>(std::clamp<int64_t>((d / width + 31) / 32 * 32, 32, kMostThreads));
}

/// The first 32 N kKept columns of a row are loaded at the same time and stay in the warp's registers; the columns
/// behind them are read twice.
template <int N, int kKept, class T>
__global__ void __launch_bounds__(32 * kForwardWarps)
    rmsnorm_forward_kernel(int64_t rows, int64_t d, Matrix<const T> x /*[M,d]*/, const int32_t* source /*[R]*/,
                           const T* weight /*[d]*/, float epsilon, Matrix<T> packed /*[R,d] or null*/,
                           Matrix<T> y /*[R,d]*/, float* rstd /*[R] or null*/) {
  wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kForwardWarps + threadIdx.x / 32;
  const int64_t first = threadIdx.x % 32 * N, kept_end = first + int64_t{32} * N * kKept;
  if (row >= rows) return;
  const T* x_row = x.at(row_of(source, row));
  Vec<T, N> kept[kKept];
#pragma unroll
  for (int v = 0; v < kKept; ++v)
    if (first + 32 * N * v < d) kept[v] = *reinterpret_cast<const Vec<T, N>*>(x_row + first + 32 * N * v);
  float squares = 0, value[N];
  const auto add = [&] {
#pragma unroll
    for (int i = 0; i < N; ++i) squares += value[i] * value[i];
  };
#pragma unroll
  for (int v = 0; v < kKept; ++v)
    if (first + 32 * N * v < d) {
      load(value, kept[v].v);
      add();
    }
  for (int64_t column = kept_end; column < d; column += 32 * N) {
    load(value, x_row + column);
    add();
  }
  const float r = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(d) + epsilon);
  const auto put = [&](int64_t column) {
    float w[N];
    load(w, weight + column);
    if (packed.data != nullptr) store(packed.at(row, column), value);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= r * w[i];
    store(y.at(row, column), value);
  };
#pragma unroll
  for (int v = 0; v < kKept; ++v)
    if (first + 32 * N * v < d) {
      load(value, kept[v].v);
      put(first + 32 * N * v);
    }
  for (int64_t column = kept_end; column < d; column += 32 * N) {
    load(value, x_row + column);
    put(column);
  }
  if (rstd != nullptr && threadIdx.x % 32 == 0) rstd[row] = r;
}

/// Each block takes every gridDim.x-th row and sums d_weight over them in shared memory, each thread for its own
/// columns. A thread's first vector of a row stays in registers; the columns of longer rows are read twice.
template <int N, class T>
__global__ void __launch_bounds__(kMostThreads)
    rmsnorm_backward_kernel(int64_t rows, int64_t d, Matrix<const T> d_y /*[R,d]*/, Matrix<const T> packed /*[R,d]*/,
                            const T* weight /*[d]*/, const float* rstd /*[R]*/, Matrix<T> d_packed /*[R,d] +=*/,
                            float* partial /*[blocks,d]*/) {
  wait_for_earlier_kernels();
  float* d_weight = dynamic_shared<float>();  // [d]
  const int64_t first = threadIdx.x * N, step = blockDim.x * N;
  for (int64_t column = first; column < d; column += step)
#pragma unroll
    for (int i = 0; i < N; ++i) d_weight[column + i] = 0;
  const bool any = first < d;
  float dy[N], x[N], dx[N], w[N];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *d_y_row = d_y.at(row), *x_row = packed.at(row);
    T* d_x_row = d_packed.at(row);
    Vec<T, N> dy_kept, x_kept, dx_kept;
    if (any) {
      dy_kept = *reinterpret_cast<const Vec<T, N>*>(d_y_row + first);
      x_kept = *reinterpret_cast<const Vec<T, N>*>(x_row + first);
      dx_kept = *reinterpret_cast<const Vec<T, N>*>(d_x_row + first);
    }
    const float r = rstd[row];
    float dot = 0;
    const auto add = [&](int64_t column) {
      load(w, weight + column);
#pragma unroll
      for (int i = 0; i < N; ++i) dot += dy[i] * w[i] * x[i];
    };
    if (any) {
      load(dy, dy_kept.v);
      load(x, x_kept.v);
      add(first);
    }
    for (int64_t column = first + step; column < d; column += step) {
      load(dy, d_y_row + column);
      load(x, x_row + column);
      add(column);
    }
    const float mean = block_sum(dot) * r / static_cast<float>(d);
    const auto put = [&](int64_t column) {
      load(w, weight + column);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float normal = x[i] * r;
        dx[i] += r * (dy[i] * w[i] - normal * mean);
        d_weight[column + i] += dy[i] * normal;
      }
      store(d_x_row + column, dx);
    };
    if (any) {
      load(dy, dy_kept.v);
      load(x, x_kept.v);
      load(dx, dx_kept.v);
      put(first);
    }
    for (int64_t column = first + step; column < d; column += step) {
      load(dy, d_y_row + column);
      load(x, x_row + column);
      load(dx, d_x_row + column);
      put(column);
    }
  }
  for (int64_t column = first; column < d; column += step) {
    float sum[N];
    load(sum, d_weight + column);
    store(partial + blockIdx.x * d + column, sum);
  }
}

}  // namespace

void CudaOps::rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                              const Tensor& packed, const Tensor& y, const Tensor& rstd) {
  check_rmsnorm_forward(x, source, weight, packed, y, rstd);
  const int64_t d = y.columns();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d, {&x, &weight, &packed, &y}, [&](auto width) {
      constexpr int N = width();
      const auto start = [&](auto kept) {
        launch(rmsnorm_forward_kernel<N, kept(), T>, dim3(blocks_for(y.rows(), kForwardWarps)),
               dim3(32 * kForwardWarps), 0, stream_, y.rows(), d, matrix_of<const T>(x), source, weight.as<T>(),
               static_cast<float>(epsilon), matrix_of<T>(packed), matrix_of<T>(y), rstd ? rstd.as<float>() : nullptr);
      };
      if (d <= 32 * N * 4)
        start(std::integral_constant<int, 4>{});
      else
        start(std::integral_constant<int, 8>{});
    });
  });
}

void CudaOps::rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                               const Tensor& d_packed, const Tensor& d_weight) {
  check_rmsnorm_backward(d_y, packed, weight, rstd, d_packed, d_weight);
  const int64_t rows = d_y.rows(), d = d_y.columns();
  const int64_t blocks = std::min((rows + kRowsPerBlock - 1) / kRowsPerBlock, kMostBlocks);
  const ArenaScope scope(scratch_);
  float* partial = scratch_.tensor(DType::float32, blocks, d, "partial d_weight").as<float>();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d, {&d_y, &packed, &weight, &d_packed}, [&](auto width) {
      constexpr int N = width();
      launch(rmsnorm_backward_kernel<N, T>, dim3(blocks_for(blocks, 1)), dim3(threads_for(d, N)),
             static_cast<size_t>(d) * sizeof(float), stream_, rows, d, matrix_of<const T>(d_y),
             matrix_of<const T>(packed), weight.as<T>(), rstd.as<float>(), matrix_of<T>(d_packed), partial);
    });
  });
  add_partials(stream_, partial, blocks, d, d_weight.as<float>(), d, d);
}

}  // namespace mor::cuda
