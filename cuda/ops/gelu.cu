// gelu on the GPU.
// Bytes: forward reads and writes n elements of a row; backward reads 2n and writes n.
#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/gelu.h"

namespace mor::cuda {

namespace {

/// Phi(x), the cumulative distribution function of the normal distribution.
__device__ __forceinline__ float cumulative(float x) {
  return 0.5f * (1.0f + erff(x * 0.70710678118654752f));
}

template <int N, class T>
struct Gelu {
  Matrix<const T> x /*[R,n]*/;
  Matrix<T> y /*[R,n]*/;

  __device__ void operator()(int64_t row, int64_t column) const {
    float value[N];
    load(value, x.at(row, column));
#pragma unroll
    for (int i = 0; i < N; ++i) value[i] *= cumulative(value[i]);
    store(y.at(row, column), value);
  }
};

template <int N, class T>
struct GeluBackward {
  Matrix<const T> d_y, x /*[R,n]*/;
  Matrix<T> d_x /*[R,n]*/;

  __device__ void operator()(int64_t row, int64_t column) const {
    float d[N], value[N];
    load(d, d_y.at(row, column));
    load(value, x.at(row, column));
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float density = 0.39894228040143268f * expf(-0.5f * value[i] * value[i]);
      d[i] *= cumulative(value[i]) + value[i] * density;
    }
    store(d_x.at(row, column), d);
  }
};

}  // namespace

void CudaOps::gelu_forward(const Tensor& x, const Tensor& y) {
  check_gelu_forward(x, y);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(y.columns(), {&x, &y}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, y.rows(), y.columns(), Gelu<N, T>{matrix_of<const T>(x), matrix_of<T>(y)});
    });
  });
}

void CudaOps::gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) {
  check_gelu_backward(d_y, x, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d_x.columns(), {&d_y, &x, &d_x}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, d_x.rows(), d_x.columns(),
                  GeluBackward<N, T>{matrix_of<const T>(d_y), matrix_of<const T>(x), matrix_of<T>(d_x)});
    });
  });
}

}  // namespace mor::cuda
