// swiglu on the GPU.
// Bytes: forward reads 2f elements of a row and writes f; backward reads 3f and writes 2f.
#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/vec.cuh"
#include "ops/checks/swiglu.h"

namespace mor::cuda {

namespace {

__device__ __forceinline__ float sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}

template <int N, class T>
struct Swiglu {
  const T* gate_up;  ///< [R,2f]
  int64_t gate_up_stride, f;
  T* out;  ///< [R,f]
  int64_t out_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    float gate[N], up[N];
    load(gate, gate_up + row * gate_up_stride + column);
    load(up, gate_up + row * gate_up_stride + f + column);
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] *= gate[i] * sigmoid(gate[i]);
    store(out + row * out_stride + column, up);
  }
};

template <int N, class T>
struct SwigluBackward {
  const T* d_out;  ///< [R,f]
  int64_t d_out_stride;
  const T* gate_up;  ///< [R,2f]
  int64_t gate_up_stride, f;
  T* d_gate_up;  ///< [R,2f]
  int64_t d_gate_up_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    float d[N], gate[N], up[N];
    load(d, d_out + row * d_out_stride + column);
    load(gate, gate_up + row * gate_up_stride + column);
    load(up, gate_up + row * gate_up_stride + f + column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s = sigmoid(gate[i]), d_up = d[i] * gate[i] * s;
      gate[i] = d[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
      up[i] = d_up;
    }
    store(d_gate_up + row * d_gate_up_stride + column, gate);
    store(d_gate_up + row * d_gate_up_stride + f + column, up);
  }
};

}  // namespace

void CudaOps::swiglu_forward(const Tensor& gate_up, const Tensor& out) {
  check_swiglu_forward(gate_up, out);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(out.columns(), {&gate_up, &out}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, out.rows(), out.columns(),
                  Swiglu<N, T>{gate_up.as<T>(), gate_up.row_stride, out.columns(), out.as<T>(), out.row_stride});
    });
  });
}

void CudaOps::swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) {
  check_swiglu_backward(d_out, gate_up, d_gate_up);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d_out.columns(), {&d_out, &gate_up, &d_gate_up}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, d_out.rows(), d_out.columns(),
                  SwigluBackward<N, T>{d_out.as<T>(), d_out.row_stride, gate_up.as<T>(), gate_up.row_stride,
                                       d_out.columns(), d_gate_up.as<T>(), d_gate_up.row_stride});
    });
  });
}

}  // namespace mor::cuda
