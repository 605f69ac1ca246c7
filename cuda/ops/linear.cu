// linear on the GPU: its three products, in bf16 by mma.sync (linear_mma.cuh) or wgmma (linear_wgmma.cuh) and in
// float32 by FMA (linear_fma.cuh), and the choice of tiles. Bytes: each block reads all of its rows of both factors, (1
// / rows + 1 / columns of a tile) elements for each multiply-add, mostly from the L2 cache. From memory both factors
// are read about once, and the output is written once; d_weight is read and written, and with splits the partial sums
// too.
#include "cuda/cuda_ops.h"
#include "cuda/ops/linear_launch.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/linear.h"

namespace mor::cuda {

namespace {

/// out = product (+ residual).
template <class T, class Out>
struct Store {
  Matrix<Out> out;           ///< [rows, columns]
  Matrix<const T> residual;  ///< or null
  int64_t columns;
  bool pairs;

  __device__ void operator()(int64_t row, int64_t column, float value) const {
    if (residual.data != nullptr) value += to_float(*residual.at(row, column));
    *out.at(row, column) = from_float<Out>(value);
  }
  __device__ void operator()(unsigned, int64_t row, int64_t column, float first, float second) const {
    float value[2] = {0, 0};
    if (residual.data != nullptr) load_pair(value, residual.at(row), column, columns, pairs);
    store_pair(out.at(row), column, columns, pairs, {value[0] + first, value[1] + second});
  }
};

template <class T, class Out>
Store<T, Out> store_to(const Tensor& out, const Tensor& residual) {
  return {matrix_of<Out>(out), matrix_of<const T>(residual), out.columns(),
          pairs_aligned(out) && pairs_aligned(residual)};
}

/// out += product; if the inner extent is split, each split's product becomes one partial sum.
struct Gradient {
  float* out;  ///< [splits, rows, columns]
  int64_t split_stride, out_stride;
  int64_t columns;
  bool pairs, add;

  __device__ void operator()(int64_t row, int64_t column, float value) const {
    out[row * out_stride + column] += value;
  }
  __device__ void operator()(unsigned split, int64_t row, int64_t column, float first, float second) const {
    float *to = out + split * split_stride + row * out_stride, value[2] = {0, 0};
    if (add) load_pair(value, to, column, columns, pairs);
    store_pair(to, column, columns, pairs, {value[0] + first, value[1] + second});
  }
};

/// out += the partial sums, added in their order.
template <int N>
struct AddSplits {
  const float* partial;  ///< [splits, rows, columns]
  int64_t splits, split_stride, columns;
  Matrix<float> out;

  __device__ void operator()(int64_t row, int64_t column) const {
    float sum[N], part[N];
    load(sum, partial + row * columns + column);
    for (int64_t s = 1; s < splits; ++s) {
      load(part, partial + s * split_stride + row * columns + column);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += part[i];
    }
    accumulate(out.at(row, column), sum);
  }
};

}  // namespace

void CudaOps::linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) {
  check_linear_forward(x, weight, residual, y);
  with_type(y.dtype, [&](auto y_type) {
    using Y = decltype(y_type);
    if (compute_ == DType::float32)
      return multiply(stream_, fma_factor(x, false), fma_factor(weight, false), store_to<float, Y>(y, residual));
    start_forward(stream_, mma_factor(x, false), mma_factor(weight, false), async_aligned(x, weight),
                  store_to<bf16, Y>(y, residual));
  });
}

void CudaOps::linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) {
  check_linear_backward_input(d_y, weight, d_x);
  if (compute_ == DType::float32)
    return multiply(stream_, fma_factor(d_y, false), fma_factor(weight, true), store_to<float, float>(d_x, {}));
  const MmaFactor left = mma_factor(d_y, false), right = mma_factor(weight, true);
  const auto store = store_to<bf16, bf16>(d_x, {});
  if (!async_aligned(d_y, weight))
    return start_product<MediumProduct, false, true, false>(stream_, left, right, 1, store);
  const Gpu gpu = gpu_of(stream_);
  switch (product_class(d_x.rows(), d_x.columns(), gpu)) {
    case ProductClass::hopper_wide:
      return start_wgmma_product<HopperWideProduct, false, true>(stream_, gpu, left, right, 1, store);
    case ProductClass::hopper:
      return start_wgmma_product<HopperProduct, false, true>(stream_, gpu, left, right, 1, store);
    case ProductClass::wide:
      return start_product<WideProduct, false, true, true>(stream_, left, right, 1, store);
    case ProductClass::large:
      return start_product<LargeProduct, false, true, true>(stream_, left, right, 1, store);
    default:  // the classes for few rows are not worth compiling here: training has many
      return start_product<MediumProduct, false, true, true>(stream_, left, right, 1, store);
  }
}

void CudaOps::linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  check_linear_backward_weight(d_y, x, d_weight);
  if (d_y.rows() == 0) return;  // the driver makes no tensor map without rows
  const int64_t rows = d_weight.rows(), columns = d_weight.columns();
  if (compute_ == DType::float32)
    return multiply(stream_, fma_factor(d_y, true), fma_factor(x, true),
                    Gradient{d_weight.as<float>(), 0, d_weight.row_stride, columns, false, true});
  const int64_t splits = product_splits(product_tiles<LargeProduct>(rows, columns), d_y.rows());
  const ArenaScope scope(scratch_);
  Gradient gradient{d_weight.as<float>(), 0, d_weight.row_stride, columns, pairs_aligned(d_weight), true};
  if (splits > 1) {
    auto* partial = scratch_.array<float>(splits * rows * columns);
    gradient = {partial, rows * columns, columns, columns, columns % 2 == 0, false};
  }
  const MmaFactor left = mma_factor(d_y, true), right = mma_factor(x, true);
  const Gpu gpu = gpu_of(stream_);
  const auto start = [&] {
    if (!async_aligned(d_y, x))
      return start_product<MediumProduct, true, true, false>(stream_, left, right, splits, gradient);
    switch (product_class(rows, columns, gpu, splits)) {
      case ProductClass::hopper_wide:
        return start_wgmma_product<HopperWideProduct, true, true>(stream_, gpu, left, right, splits, gradient);
      case ProductClass::hopper:
        return start_wgmma_product<HopperProduct, true, true>(stream_, gpu, left, right, splits, gradient);
      case ProductClass::wide:
        return start_product<WideProduct, true, true, true>(stream_, left, right, splits, gradient);
      default:
        return start_product<LargeProduct, true, true, true>(stream_, left, right, splits, gradient);
    }
  };
  start();
  if (splits == 1) return;
  with_width<float>(columns, {&d_weight}, [&](auto width) {
    constexpr int N = width();
    for_each<N>(stream_, rows, columns,
                AddSplits<N>{gradient.out, splits, rows * columns, columns, matrix_of<float>(d_weight)});
  });
}

}  // namespace mor::cuda
