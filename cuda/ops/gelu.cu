// gelu on the GPU.
// Bytes: forward reads and writes n elements of a row; backward reads 2n and writes n.
#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/checks/gelu.h"

namespace mor::cuda {

namespace {

/// Phi(x), the cumulative distribution function of the normal distribution.
__device__ __forceinline__ float cumulative(float x) {
  return 0.5f * (1.0f + erff(x * 0.70710678118654752f));
}

template <int N, class T>
struct Gelu {
  const T* x;  ///< [R,n]
  int64_t x_stride;
  T* y;  ///< [R,n]
  int64_t y_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    float value[N];
    load(value, x + row * x_stride + column);
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= cumulative(value[i]);
    store(y + row * y_stride + column, value);
  }
};

template <int N, class T>
struct GeluBackward {
  const T* d_y;  ///< [R,n]
  int64_t d_y_stride;
  const T* x;  ///< [R,n]
  int64_t x_stride;
  T* d_x;  ///< [R,n]
  int64_t d_x_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    float d[N], value[N];
    load(d, d_y + row * d_y_stride + column);
    load(value, x + row * x_stride + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float density = 0.39894228040143268f * expf(-0.5f * value[i] * value[i]);
      d[i] *= cumulative(value[i]) + value[i] * density;
    }
    store(d_x + row * d_x_stride + column, d);
  }
};

}  // namespace

void CudaOps::gelu_forward(const Tensor& x, const Tensor& y) {
  check_gelu_forward(x, y);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(y.columns(), {&x, &y}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, y.rows(), y.columns(), Gelu<N, T>{x.as<T>(), x.row_stride, y.as<T>(), y.row_stride});
    });
  });
}

void CudaOps::gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) {
  check_gelu_backward(d_y, x, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d_x.columns(), {&d_y, &x, &d_x}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(
          stream_, d_x.rows(), d_x.columns(),
          GeluBackward<N, T>{d_y.as<T>(), d_y.row_stride, x.as<T>(), x.row_stride, d_x.as<T>(), d_x.row_stride});
    });
  });
}

}  // namespace mor::cuda
