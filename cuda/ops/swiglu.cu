// swiglu on the GPU.
// Bytes: forward reads 2f elements of a row and writes f; backward reads 3f and writes 2f.
#include <type_traits>

#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/special_functions.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/swiglu.h"

namespace mor::cuda {

namespace {

/// In bfloat16 by the special function unit: an exact exponential and a division take more time than the bytes do, and
/// their last bits would be rounded away.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return fast_reciprocal(1.0f + fast_exp2(-kLog2E * x));
  else
    return 1.0f / (1.0f + expf(-x));
}

template <int N, class T>
struct Swiglu {
  Matrix<const T> gate_up /*[R,2f]*/;
  int64_t f;
  Matrix<T> out /*[R,f]*/;

  __device__ void operator()(int64_t row, int64_t column) const {
    float gate[N], up[N];
    load(gate, gate_up.at(row, column));
    load(up, gate_up.at(row, f + column));
#pragma unroll
    for (int i = 0; i < N; ++i) up[i] *= gate[i] * sigmoid<T>(gate[i]);
    store(out.at(row, column), up);
  }
};

template <int N, class T>
struct SwigluBackward {
  Matrix<const T> d_out /*[R,f]*/, gate_up /*[R,2f]*/;
  int64_t f;
  Matrix<T> d_gate_up /*[R,2f]*/;

  __device__ void operator()(int64_t row, int64_t column) const {
    float d[N], gate[N], up[N];
    load(d, d_out.at(row, column));
    load(gate, gate_up.at(row, column));
    load(up, gate_up.at(row, f + column));
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float s = sigmoid<T>(gate[i]), d_up = d[i] * gate[i] * s;
      gate[i] = d[i] * up[i] * s * (1.0f + gate[i] * (1.0f - s));
      up[i] = d_up;
    }
    store(d_gate_up.at(row, column), gate);
    store(d_gate_up.at(row, f + column), up);
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
                  Swiglu<N, T>{matrix_of<const T>(gate_up), out.columns(), matrix_of<T>(out)});
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
                  SwigluBackward<N, T>{matrix_of<const T>(d_out), matrix_of<const T>(gate_up), d_out.columns(),
                                       matrix_of<T>(d_gate_up)});
    });
  });
}

}  // namespace mor::cuda
