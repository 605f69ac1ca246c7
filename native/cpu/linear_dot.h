// linear as dot products, for float32 and wherever tiles or oneDNN do not pay. Must not know of tensors or threads.
#pragma once

#include <algorithm>

#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

/// Where a forward product goes: y = product (+ residual).
template <class T, class Y>
struct LinearOutput {
  Y* y = nullptr;
  int64_t y_stride = 0;
  const T* residual = nullptr;  ///< may be y
  int64_t residual_stride = 0;

  void put(int64_t row, int64_t column, float value) const {
    if (residual != nullptr) value += static_cast<float>(residual[row * residual_stride + column]);
    y[row * y_stride + column] = static_cast<Y>(value);
  }
  void put(int64_t row, int64_t column, Vec values, int64_t n) const {
    if (residual != nullptr) {
      const T* from = residual + row * residual_stride + column;
      values += n == kLanes ? load(from) : load_first(from, n);
    }
    Y* to = y + row * y_stride + column;
    if (n == kLanes)
      store(to, values);
    else
      store_first(to, values, n);
  }
};

// What fits into the registers, 32 or 16: accumulators of a tile, one more row of operands.
#if defined(__AVX512F__)
constexpr int64_t kDotRows = 4, kDotColumns = 4;
#else
constexpr int64_t kDotRows = 3, kDotColumns = 3;
#endif

/// M rows of x times N rows of weight. The order of every sum depends on k alone: not on M, N or the place in a tile.
template <int64_t M, int64_t N, class T, class Y>
void dot_tile(const T* x, int64_t x_stride, const T* weight, int64_t weight_stride, int64_t k, int64_t row,
              int64_t column, const LinearOutput<T, Y>& output) {
  Vec sums[M][N] = {};
  const T* a = x + row * x_stride;
  const T* b = weight + column * weight_stride;
  const auto step = [&](auto&& read) __attribute__((always_inline)) {
    Vec right[N];
    for (int64_t j = 0; j < N; ++j) right[j] = read(b + j * weight_stride);
    for (int64_t i = 0; i < M; ++i) {
      const Vec left = read(a + i * x_stride);
      for (int64_t j = 0; j < N; ++j) sums[i][j] += left * right[j];
    }
  };
  int64_t l = 0;
  for (; l + kLanes <= k; l += kLanes) step([l](const T* p) { return load(p + l); });
  if (l < k) step([l, k](const T* p) { return load_first(p + l, k - l); });
  for (int64_t i = 0; i < M; ++i)
    for (int64_t j = 0; j < N; ++j) output.put(row + i, column + j, sum(sums[i][j]));
}

template <int64_t M, class T, class Y>
void dot_rows(const T* x, int64_t x_stride, const T* weight, int64_t weight_stride, int64_t k, int64_t row,
              int64_t begin, int64_t end, const LinearOutput<T, Y>& output) {
  int64_t j = begin;
  for (; j + kDotColumns <= end; j += kDotColumns)
    dot_tile<M, kDotColumns>(x, x_stride, weight, weight_stride, k, row, j, output);
  for (; j < end; ++j) dot_tile<M, 1>(x, x_stride, weight, weight_stride, k, row, j, output);
}

/// Columns [begin, end) of all rows. Weights are read once, in panels that stay in the second-level cache while all
/// rows pass over them.
template <class T, class Y>
void linear_dot(const T* x, int64_t x_stride, int64_t rows, const T* weight, int64_t weight_stride, int64_t k,
                int64_t begin, int64_t end, const LinearOutput<T, Y>& output) {
  constexpr int64_t kPanelBytes = 256 << 10;
  const int64_t row_bytes = std::max<int64_t>(1, k) * static_cast<int64_t>(sizeof(T));
  const int64_t panel = std::max<int64_t>(1, kPanelBytes / (row_bytes * kDotColumns)) * kDotColumns;
  for (int64_t j = begin; j < end; j += panel) {
    const int64_t last = std::min(end, j + panel);
    int64_t i = 0;
    for (; i + kDotRows <= rows; i += kDotRows)
      dot_rows<kDotRows>(x, x_stride, weight, weight_stride, k, i, j, last, output);
    if (rows - i == 1) dot_rows<1>(x, x_stride, weight, weight_stride, k, i, j, last, output);
    if (rows - i == 2) dot_rows<2>(x, x_stride, weight, weight_stride, k, i, j, last, output);
    if (rows - i == 3) dot_rows<3>(x, x_stride, weight, weight_stride, k, i, j, last, output);
  }
}

}  // namespace mor::MOR_CPU_ISA
