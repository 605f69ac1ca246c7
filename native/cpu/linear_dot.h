// linear forward of a few bfloat16 rows as dot products, which read the weights in one sequential pass.
#pragma once

#include <algorithm>
#include <cstring>
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

/// A register of bfloat16 operands, and how products of two of them are added to registers of sums: to kPerStep of
/// them, or to one if the output has only one. kMostSums: how many are worth having, so that an addition need not wait
/// for the one before.
struct DotOperand {
  static constexpr int64_t kWidth = 2 * kLanes;
#if defined(__AVX512BF16__)
  using Type = Pairs;
  static constexpr int64_t kPerStep = 1, kMostSums = 1;
  static Type read(const bfloat16* p) {
    return load_pairs(p);
  }
  static Type read_first(const bfloat16* p, int64_t n) {
    return load_first_pairs(p, n);
  }
  static void add(Vec* sums, int64_t, Type a, Type b) {
    *sums = multiply_add(*sums, a, b);
  }
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  using Type = bfloat16x8_t;
  static constexpr int64_t kPerStep = 1, kMostSums = 4;
  static Type read(const bfloat16* p) {
    return vld1q_bf16(reinterpret_cast<const bfloat16_t*>(p));
  }
  static Type read_first(const bfloat16* p, int64_t n) {
    bfloat16 some[kWidth] = {};
    std::memcpy(static_cast<void*>(some), p, static_cast<size_t>(n) * sizeof(bfloat16));
    return read(some);
  }
  static void add(Vec* sums, int64_t, Type a, Type b) {
    *sums = vbfdotq_f32(*sums, a, b);
  }
#else
  using Type = Halves;
  static constexpr int64_t kPerStep = 2, kMostSums = 4;
  static Type read(const bfloat16* p) {
    return load_halves(p);
  }
  static Type read_first(const bfloat16* p, int64_t n) {
    return load_first_halves(p, n);
  }
  static void add(Vec* sums, int64_t count, Type a, Type b) {
    sums[0] += a.even * b.even;
    sums[count > 1 ? 1 : 0] += a.odd * b.odd;
  }
#endif
};

// A tile's accumulators and one row of operands must fit the registers.
constexpr int64_t kDotRows = kRegisters == 32 ? 4 : 3, kDotColumns = kDotRows;

/// With few rows of x the product waits for the weights from memory. For one row, reading one row of weights at a time
/// and prefetching this many bytes ahead reaches nearly the bandwidth of memory. For more rows, which give the
/// processor more to compute, reading kDotColumns rows of weights at once, further ahead, is no slower.
template <int64_t M>
constexpr int64_t kWalks = M == 1 ? 1 : kDotColumns;
template <int64_t M>
constexpr int64_t kFetchAhead = M == 1 ? 6144 : 8192;

/// How many registers sum one output. One row has only one output at a time.
template <int64_t M>
constexpr int64_t kSums = M == 1 ? DotOperand::kMostSums : 1;

/// Both operands of the product.
struct DotOperands {
  const bfloat16* x;
  int64_t x_stride;
  const bfloat16* weight;
  int64_t weight_stride;
  int64_t k;
};

/// M rows of x times N rows of weight. The order of every sum depends on k and kSums<M>: not on N or the place in a
/// tile. fetch: whether to prefetch the weights, because they are not in a cache.
template <int64_t M, int64_t N, bool fetch, class Y>
void dot_tile(const DotOperands& in, int64_t row, int64_t column, const LinearOutput<bfloat16, Y>& output) {
  constexpr int64_t kCount = kSums<M>, kWidth = DotOperand::kWidth;
  constexpr int64_t kUnrolled = std::max<int64_t>(1, kCount / DotOperand::kPerStep);
  Vec sums[M][N][kCount] = {};
  const int64_t k = in.k;
  const bfloat16* a = in.x + row * in.x_stride;
  const bfloat16* b = in.weight + column * in.weight_stride;
  const auto step = [&](int64_t first, auto&& read) __attribute__((always_inline)) {
    DotOperand::Type right[N];
    for (int64_t j = 0; j < N; ++j) right[j] = read(b + j * in.weight_stride);
    for (int64_t i = 0; i < M; ++i) {
      const auto left = read(a + i * in.x_stride);
      for (int64_t j = 0; j < N; ++j) DotOperand::add(&sums[i][j][first], kCount, left, right[j]);
    }
  };
  int64_t l = 0;
  for (; l + kUnrolled * kWidth <= k; l += kUnrolled * kWidth) {
    if constexpr (fetch)
      for (int64_t j = 0; j < N; ++j)
        __builtin_prefetch(reinterpret_cast<const char*>(b + j * in.weight_stride + l) + kFetchAhead<M>);
#pragma GCC unroll 4
    for (int64_t u = 0; u < kUnrolled; ++u)
      step(u * DotOperand::kPerStep, [l, u](const bfloat16* p) { return DotOperand::read(p + l + u * kWidth); });
  }
  if constexpr (kUnrolled > 1)
    for (; l + kWidth <= k; l += kWidth) step(0, [l](const bfloat16* p) { return DotOperand::read(p + l); });
  if (l < k) step(0, [l, k](const bfloat16* p) { return DotOperand::read_first(p + l, k - l); });
  for (int64_t i = 0; i < M; ++i)
    for (int64_t j = 0; j < N; ++j) {
      Vec total = sums[i][j][0];
      for (int64_t s = 1; s < kCount; ++s) total += sums[i][j][s];
      output.put(row + i, column + j, sum(total));
    }
}

template <int64_t M, bool fetch, class Y>
void dot_rows(const DotOperands& in, int64_t row, int64_t begin, int64_t end, const LinearOutput<bfloat16, Y>& output) {
  int64_t j = begin;
  for (; j + kWalks<M> <= end; j += kWalks<M>) dot_tile<M, kWalks<M>, fetch>(in, row, j, output);
  for (; j < end; ++j) dot_tile<M, 1, fetch>(in, row, j, output);
}

/// Computes columns [begin, end) of all rows. Weights are read from memory once, in panels that stay in the
/// second-level cache while all rows use them.
template <class Y>
void linear_dot(const DotOperands& in, int64_t rows, int64_t begin, int64_t end,
                const LinearOutput<bfloat16, Y>& output) {
  constexpr int64_t kPanelBytes = 256 << 10;
  const int64_t row_bytes = std::max<int64_t>(1, in.k) * static_cast<int64_t>(sizeof(bfloat16));
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
