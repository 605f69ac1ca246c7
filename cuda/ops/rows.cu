// gather_rows, add_rows, scatter_gated and cast on the GPU.
// Bytes: every element is read and written once; add_rows and scatter_gated_forward read the target too.
#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "cuda/tile/reduce.cuh"
#include "ops/checks/rows.h"

namespace mor::cuda {

namespace {

template <int N, class T>
struct AddRows {
  const T* x;  ///< [R,d]
  int64_t x_stride;
  const int32_t* source;  ///< [R]
  T* y;                   ///< [M,d]
  int64_t y_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    T* to = y + row_of(source, row) * y_stride + column;
    float a[N], b[N];
    load(a, x + row * x_stride + column);
    load(b, to);
#pragma unroll
    for (int i = 0; i < N; ++i) b[i] += a[i];
    store(to, b);
  }
};

template <int N, class T>
struct ScatterGated {
  const T* x;  ///< [R,d]
  int64_t x_stride;
  const int32_t* from;  ///< [n]
  const float* gate;    ///< [n]
  const int32_t* to;    ///< [n]
  T* stream;            ///< [M,d]
  int64_t stream_stride;

  __device__ void operator()(int64_t row, int64_t column) const {
    T* target = stream + to[row] * stream_stride + column;
    const float g = gate[row];
    float a[N], b[N];
    load(a, x + row_of(from, row) * x_stride + column);
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
    scatter_gated_backward_kernel(int64_t gates, int64_t columns, const T* d_stream /*[M,d]*/, int64_t d_stream_stride,
                                  const int32_t* to, const T* x /*[R,d]*/, int64_t x_stride, const int32_t* from,
                                  const float* gate, T* d_x /*[R,d]*/, int64_t d_x_stride, float* d_gate) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32;
  if (i >= gates) return;
  const int64_t row = row_of(from, i);
  const T *d_row = d_stream + to[i] * d_stream_stride, *x_row = x + row * x_stride;
  T* d_x_row = d_x + row * d_x_stride;
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
  MOR_CHECK(from.rows() == to.rows() && from.columns() == to.columns(), INVALID_ARGUMENT, "cast: ", from.name, " is ",
            from.rows(), " x ", from.columns(), ", ", to.name, " is ", to.rows(), " x ", to.columns());
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
                  AddRows<N, T>{x.as<T>(), x.row_stride, source, y.as<T>(), y.row_stride});
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
      for_each<N>(
          stream_, gate.count(), x.columns(),
          ScatterGated<N, T>{x.as<T>(), x.row_stride, from, gate.as<float>(), to, stream.as<T>(), stream.row_stride});
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
             dim3(32 * kWarpsPerBlock), 0, stream_, gate.count(), x.columns(), d_stream.as<T>(), d_stream.row_stride,
             to, x.as<T>(), x.row_stride, from, gate.as<float>(), d_x.as<T>(), d_x.row_stride, d_gate.as<float>());
    });
  });
}

}  // namespace mor::cuda
