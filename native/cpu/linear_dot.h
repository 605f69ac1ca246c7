// linear as dot products: for float32, and for bfloat16 where tiles and oneDNN are slower.
#pragma once

#include <algorithm>
#include <type_traits>

#include "cpu/lanes.h"

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
    with_lanes(n, [&](auto part) {
      if (residual != nullptr) values += part.load(residual + row * residual_stride + column);
      part.store(y + row * y_stride + column, values);
    });
  }
};

/// A register of operands, and how products of two of them are added to a register of sums.
template <class T>
struct DotOperand {
  using Type = Vec;
  static constexpr int64_t kWidth = kLanes;
  static Vec read(const T* p) { return load(p); }
  static Vec read_first(const T* p, int64_t n) { return load_first(p, n); }
  static void add(Vec& sums, Vec a, Vec b) { sums += a * b; }
};
#if defined(__AVX512BF16__)
template <>
struct DotOperand<bfloat16> {  // twice as many operands as a register holds floats; products are added in pairs
  using Type = __m512bh;
  static constexpr int64_t kWidth = 2 * kLanes;
  static Type read(const bfloat16* p) { return reinterpret_cast<Type>(_mm512_loadu_si512(p)); }
  static Type read_first(const bfloat16* p, int64_t n) {
    return reinterpret_cast<Type>(_mm512_maskz_loadu_epi16((__mmask32{1} << n) - 1, p));
  }
  static void add(Vec& sums, Type a, Type b) {
    sums = reinterpret_cast<Vec>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sums), a, b));
  }
};
#endif

// A tile's accumulators and one row of operands must fit the 32 or 16 registers.
#if defined(__AVX512F__)
constexpr int64_t kDotRows = 4, kDotColumns = 4;
#else
constexpr int64_t kDotRows = 3, kDotColumns = 3;
#endif

/// With few rows of x the product waits for the weights from memory. For one row, reading one row of weights at a time
/// and prefetching this many bytes ahead reaches nearly the bandwidth of memory. For more rows, which give the
/// processor more to compute, reading kDotColumns rows of weights at once, further ahead, is no slower.
template <int64_t M>
constexpr int64_t kWalks = M == 1 ? 1 : kDotColumns;
template <int64_t M>
constexpr int64_t kFetchAhead = M == 1 ? 6144 : 8192;

/// Both operands of the product.
template <class T>
struct DotOperands {
  const T* x;
  int64_t x_stride;
  const T* weight;
  int64_t weight_stride;
  int64_t k;
};

/// M rows of x times N rows of weight. The order of every sum depends on k alone: not on M, N or the place in a tile.
/// fetch: whether to prefetch the weights, because they are not in a cache.
template <int64_t M, int64_t N, bool fetch, class T, class Y>
void dot_tile(const DotOperands<T>& in, int64_t row, int64_t column, const LinearOutput<T, Y>& output) {
  using Operand = DotOperand<T>;
  Vec sums[M][N] = {};
  const int64_t k = in.k;
  const T* a = in.x + row * in.x_stride;
  const T* b = in.weight + column * in.weight_stride;
  const auto step = [&](auto&& read) __attribute__((always_inline)) {
    typename Operand::Type right[N];
    for (int64_t j = 0; j < N; ++j) right[j] = read(b + j * in.weight_stride);
    for (int64_t i = 0; i < M; ++i) {
      const auto left = read(a + i * in.x_stride);
      for (int64_t j = 0; j < N; ++j) Operand::add(sums[i][j], left, right[j]);
    }
  };
  int64_t l = 0;
  for (; l + Operand::kWidth <= k; l += Operand::kWidth) {
    if constexpr (fetch)
      for (int64_t j = 0; j < N; ++j)
        __builtin_prefetch(reinterpret_cast<const char*>(b + j * in.weight_stride + l) + kFetchAhead<M>);
    step([l](const T* p) { return Operand::read(p + l); });
  }
  if (l < k) step([l, k](const T* p) { return Operand::read_first(p + l, k - l); });
  for (int64_t i = 0; i < M; ++i)
    for (int64_t j = 0; j < N; ++j) output.put(row + i, column + j, sum(sums[i][j]));
}

template <int64_t M, bool fetch, class T, class Y>
void dot_rows(const DotOperands<T>& in, int64_t row, int64_t begin, int64_t end, const LinearOutput<T, Y>& output) {
  int64_t j = begin;
  for (; j + kWalks<M> <= end; j += kWalks<M>) dot_tile<M, kWalks<M>, fetch>(in, row, j, output);
  for (; j < end; ++j) dot_tile<M, 1, fetch>(in, row, j, output);
}

/// Computes columns [begin, end) of all rows. Weights are read from memory once, in panels that stay in the
/// second-level cache while all rows use them.
template <class T, class Y>
void linear_dot(const DotOperands<T>& in, int64_t rows, int64_t begin, int64_t end, const LinearOutput<T, Y>& output) {
  constexpr int64_t kPanelBytes = 256 << 10;
  const int64_t row_bytes = std::max<int64_t>(1, in.k) * static_cast<int64_t>(sizeof(T));
  const int64_t panel = std::max<int64_t>(1, kPanelBytes / (row_bytes * kDotColumns)) * kDotColumns;
  for (int64_t j = begin; j < end; j += panel) {
    const int64_t last = std::min(end, j + panel);
    const auto group = [&](auto m, int64_t row) {
      if (row == 0)
        dot_rows<m(), true>(in, row, j, last, output);
      else
        dot_rows<m(), false>(in, row, j, last, output);
    };
    int64_t i = 0;
    for (; i + kDotRows <= rows; i += kDotRows) group(std::integral_constant<int64_t, kDotRows>{}, i);
    if (rows - i == 1) group(std::integral_constant<int64_t, 1>{}, i);
    if (rows - i == 2) group(std::integral_constant<int64_t, 2>{}, i);
    if (rows - i == 3) group(std::integral_constant<int64_t, 3>{}, i);
  }
}

}  // namespace mor::MOR_CPU_ISA
