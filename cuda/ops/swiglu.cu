// swiglu on the GPU. Forward: one matrix product, whose epilogue multiplies silu(gate) by up in registers
// (swiglu_epilogue.cuh); where gate and up are kept, linear writes them, and a second kernel reads them.
// Bytes: those of the product, of which half of the columns are written; the second kernel reads 2f elements of a row
// and writes f. Backward reads 3f and writes 2f.
#include "cuda/cuda_ops.h"
#include "cuda/ops/linear_launch.cuh"
#include "cuda/ops/swiglu_epilogue.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/swiglu.h"

namespace mor::cuda {

namespace {

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
    for (int i = 0; i < N; ++i) up[i] = swiglu<T>(gate[i], up[i]);
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

void CudaOps::swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) {
  check_swiglu_forward(x, weight, gate_up, out);
  if (gate_up) linear_forward(x, weight, {}, gate_up);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    if (!gate_up) return start_paired_forward<T>(stream_, x, weight, swiglu_epilogue<T>(out));
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
