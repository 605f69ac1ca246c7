// gather_rows, add_rows, scatter_gated and cast on the GPU.
// Bytes: every element is read and written once; add_rows and scatter_gated_forward read the target too.
#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/reduce.cuh"
#include "ops/checks/rows.h"

namespace mor::cuda {

namespace {

/// y[to[i]] += gate[i] * x[from[i]].
template <int N, class T>
struct AddRows {
  Matrix<const T> x;    ///< [R,d]
  const int32_t* from;  ///< [n]; null: identity
  const float* gate;    ///< [n]; null: ones
  const int32_t* to;    ///< [n]; null: identity
  Matrix<T> y;          ///< [M,d]

  __device__ void operator()(int64_t row, int64_t column) const {
    T* target = y.at(row_of(to, row), column);
    const float g = gate == nullptr ? 1.0f : gate[row];
    float a[N], b[N];
    load(a, x.at(row_of(from, row), column));
    load(b, target);
#pragma unroll
    for (int i = 0; i < N; ++i) b[i] += g * a[i];
    store(target, b);
  }
};

constexpr unsigned kWarpsPerBlock = 8;

/// One warp for each gate. d_gate is summed in double, because its terms cancel; that costs no time, since the kernel
/// is bound by memory.
template <int N, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    scatter_gated_backward_kernel(int64_t gates, int64_t columns, Matrix<const T> d_stream /*[M,d]*/, const int32_t* to,
                                  Matrix<const T> x /*[R,d]*/, const int32_t* from, const float* gate,
                                  Matrix<T> d_x /*[R,d]*/, float* d_gate) {
  wait_for_earlier_kernels();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (i >= gates) return;
  const int64_t row = row_of(from, i);
  const T *d_row = d_stream.at(to[i]), *x_row = x.at(row);
  T* d_x_row = d_x.at(row);
  const float g = gate[i];
  const unsigned lane = threadIdx.x % 32;
  double dot = 0;
  for (int64_t column = lane * N; column < columns; column += 32 * N) {
    float d[N], value[N];
    load(d, d_row + column);
    load(value, x_row + column);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      dot += static_cast<double>(d[j]) * static_cast<double>(value[j]);
      d[j] *= g;
    }
    store(d_x_row + column, d);
  }
  dot = warp_sum(dot);
  if (lane == 0) d_gate[i] = static_cast<float>(dot);
}

}  // namespace

void CudaOps::cast(const Tensor& from, const Tensor& to) {
  check_cast(from, to);
  with_type(from.dtype, [&](auto from_type) {
    with_type(to.dtype, [&](auto to_type) {
      copy_rows<decltype(from_type), decltype(to_type)>(stream_, to.rows(), from, nullptr, to, nullptr);
    });
  });
}

void CudaOps::gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_gather_rows(x, source, y);
  with_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    copy_rows<T, T>(stream_, y.rows(), x, source, y, nullptr);
  });
}

void CudaOps::add_rows(const Tensor& x, const int32_t* source, const Tensor& y) {
  check_add_rows(x, source, y);
  with_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    with_width<T>(x.columns(), {&x, &y}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, x.rows(), x.columns(),
                  AddRows<N, T>{matrix_of<const T>(x), nullptr, nullptr, source, matrix_of<T>(y)});
    });
  });
}

void CudaOps::scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                                    const Tensor& stream) {
  check_scatter_gated_forward(x, from, gate, stream);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(x.columns(), {&x, &stream}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, gate.count(), x.columns(),
                  AddRows<N, T>{matrix_of<const T>(x), from, gate.as<float>(), to, matrix_of<T>(stream)});
    });
  });
}

void CudaOps::scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                                     const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) {
  check_scatter_gated_backward(d_stream, x, from, gate, d_x, d_gate);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(x.columns(), {&d_stream, &x, &d_x}, [&](auto width) {
      constexpr int N = width();
      launch(scatter_gated_backward_kernel<N, T>, dim3(blocks_for(gate.count(), kWarpsPerBlock)),
             dim3(32 * kWarpsPerBlock), 0, stream_, gate.count(), x.columns(), matrix_of<const T>(d_stream), to,
             matrix_of<const T>(x), from, gate.as<float>(), matrix_of<T>(d_x), d_gate.as<float>());
    });
  });
}

}  // namespace mor::cuda
