// linear on the GPU: one tiled kernel for all three products, bf16 by mma.sync, float32 by FMA. Must not know of other
// ops.
#include "cuda/cuda_ops.h"
#include "cuda/tile/mma.cuh"
#include "ops/linear.h"

namespace mor::cuda {

namespace {

constexpr int kThreads = 128;
constexpr int kTile = 64;           // rows and columns of the product that a block computes
constexpr int kDepth = 32;          // of the inner extent at a time
constexpr int kPitch = kDepth + 8;  // of a tile's rows in shared memory, so that lanes fall into different banks

/// A factor as [rows, depth], whichever way it lies in memory.
template <class T>
struct Factor {
  const T* data;
  int64_t rows, depth, row_stride, depth_stride;
};

/// Rows [first_row, + kTile) and depth [first, + kDepth) of a factor, zeros where it ends.
template <class T>
__device__ void load_tile(const Factor<T>& factor, int64_t first_row, int64_t first, T (&tile)[kTile][kPitch]) {
  const bool along_depth = factor.depth_stride == 1;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
    const int row = along_depth ? i / kDepth : i % kTile, depth = along_depth ? i % kDepth : i / kTile;
    const bool inside = first_row + row < factor.rows && first + depth < factor.depth;
    tile[row][depth] = inside
                           ? factor.data[(first_row + row) * factor.row_stride + (first + depth) * factor.depth_stride]
                           : from_float<T>(0.0f);
  }
}

/// A thread's share of a tile of the product.
template <class T>
class Product;

/// Four warps, 32 x 32 each.
template <>
class Product<bf16> {
 public:
  /// Adds the product of two tiles, of which the first has `rows` rows that count.
  __device__ void add(const bf16 (&a)[kTile][kPitch], const bf16 (&b)[kTile][kPitch], int64_t rows) {
    if (static_cast<int>(threadIdx.x / 64) * 32 >= rows) return;
    for (int depth = 0; depth < kDepth; depth += 16) {
      uint32_t left[2][4], right[4][2];
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int part = 0; part < 4; ++part)
          left[m][part] = pair_at(a[row() + 16 * m + part % 2 * 8], depth + part / 2 * 8 + pair());
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int part = 0; part < 2; ++part)
          right[n][part] = pair_at(b[warp_column() + 8 * n + group()], depth + part * 8 + pair());
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n) mma_16x8x16(sum_[m][n], left[m], right[n]);
    }
  }
  /// Calls body(row, column, value) with places in the tile.
  template <class Body>
  __device__ void for_each(const Body& body) const {
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          body(row() + 16 * m + i / 2 * 8, warp_column() + 8 * n + pair() + i % 2, sum_[m][n][i]);
  }

 private:
  static __device__ uint32_t pair_at(const bf16 (&row)[kPitch], int column) {
    return *reinterpret_cast<const uint32_t*>(&row[column]);
  }
  static __device__ int group() {
    return static_cast<int>(threadIdx.x % 32) / 4;
  }
  static __device__ int pair() {
    return static_cast<int>(threadIdx.x % 4) * 2;
  }
  static __device__ int row() {
    return static_cast<int>(threadIdx.x / 64) * 32 + group();
  }
  static __device__ int warp_column() {
    return static_cast<int>(threadIdx.x / 32 % 2) * 32;
  }
  float sum_[2][4][4] = {};
};

/// 8 x 4 a thread.
template <>
class Product<float> {
 public:
  __device__ void add(const float (&a)[kTile][kPitch], const float (&b)[kTile][kPitch], int64_t rows) {
    if (row() >= rows) return;
    for (int depth = 0; depth < kDepth; ++depth) {
      float right[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) right[n] = b[column() + 16 * n][depth];
#pragma unroll
      for (int m = 0; m < 8; ++m) {
        const float left = a[row() + m][depth];
#pragma unroll
        for (int n = 0; n < 4; ++n) sum_[m][n] += left * right[n];
      }
    }
  }
  template <class Body>
  __device__ void for_each(const Body& body) const {
#pragma unroll
    for (int m = 0; m < 8; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n) body(row() + m, column() + 16 * n, sum_[m][n]);
  }

 private:
  static __device__ int row() {
    return static_cast<int>(threadIdx.x / 16) * 8;
  }
  static __device__ int column() {
    return static_cast<int>(threadIdx.x % 16);
  }
  float sum_[8][4] = {};
};

/// out = product (+ residual).
template <class T, class Out>
struct Store {
  Out* out;  ///< [rows, columns]
  int64_t out_stride;
  const T* residual;  ///< or null
  int64_t residual_stride;
  __device__ void operator()(int64_t row, int64_t column, float value) const {
    if (residual != nullptr) value += to_float(residual[row * residual_stride + column]);
    out[row * out_stride + column] = from_float<Out>(value);
  }
};

/// out += product.
struct Accumulate {
  float* out;
  int64_t out_stride;
  __device__ void operator()(int64_t row, int64_t column, float value) const {
    out[row * out_stride + column] += value;
  }
};

/// a b^T, every element given to `epilogue` once. Each element's sum runs over rising depth, whatever the rows.
template <class T, class Epilogue>
__global__ void __launch_bounds__(kThreads)
    product_kernel(const Factor<T> a, const Factor<T> b, const Epilogue epilogue) {
  __shared__ __align__(16) T a_tile[kTile][kPitch];
  __shared__ __align__(16) T b_tile[kTile][kPitch];
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * kTile, first_column = int64_t{blockIdx.y} * kTile;
  Product<T> product;
  for (int64_t depth = 0; depth < a.depth; depth += kDepth) {
    load_tile(a, first_row, depth, a_tile);
    load_tile(b, first_column, depth, b_tile);
    __syncthreads();
    product.add(a_tile, b_tile, a.rows - first_row);
    __syncthreads();
  }
  product.for_each([&](int row, int column, float value) {
    if (first_row + row < a.rows && first_column + column < b.rows)
      epilogue(first_row + row, first_column + column, value);
  });
}

template <class T, class Epilogue>
void multiply(Stream& stream, const Factor<T>& a, const Factor<T>& b, const Epilogue& epilogue) {
  launch(product_kernel<T, Epilogue>, dim3(blocks_for(a.rows, kTile), blocks_for(b.rows, kTile)), dim3(kThreads), 0,
         stream, a, b, epilogue);
}

/// The tensor's rows, or its columns, as the rows of a factor.
template <class T>
Factor<T> by_rows(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.rows(), tensor.columns(), tensor.row_stride, 1};
}
template <class T>
Factor<T> by_columns(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.columns(), tensor.rows(), 1, tensor.row_stride};
}

}  // namespace

void CudaOps::linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) {
  check_linear_forward(x, weight, residual, y);
  with_type(compute_, [&](auto type) {
    with_type(y.dtype, [&](auto y_type) {
      using T = decltype(type);
      using Y = decltype(y_type);
      multiply(stream_, by_rows<T>(x), by_rows<T>(weight),
               Store<T, Y>{y.as<Y>(), y.row_stride, residual ? residual.as<T>() : nullptr, residual.row_stride});
    });
  });
}

void CudaOps::linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) {
  check_linear_backward_input(d_y, weight, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    multiply(stream_, by_rows<T>(d_y), by_columns<T>(weight), Store<T, T>{d_x.as<T>(), d_x.row_stride, nullptr, 0});
  });
}

void CudaOps::linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  check_linear_backward_weight(d_y, x, d_weight);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    multiply(stream_, by_columns<T>(d_y), by_columns<T>(x), Accumulate{d_weight.as<float>(), d_weight.row_stride});
  });
}

}  // namespace mor::cuda
