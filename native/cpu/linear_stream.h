// linear forward of a few float32 rows: every weight is read once, in place, and used for all rows. Sums have the order
// of the blocked product (product.h), so that a row gets the same bits in any batch.
#pragma once

#include <algorithm>

#include "core/tensor.h"
#include "cpu/linear_dot.h"
#include "cpu/product.h"
#include "cpu/transpose.h"

namespace mor::MOR_CPU_ISA {

constexpr int64_t kMostStreamedRows = 4;
/// Columns of the output that are computed together: two vectors, whose sums do not wait for each other.
constexpr int64_t kStreamedColumns = 2 * kLanes;

/// Columns [begin, end), at most kStreamedColumns, of y for the M rows of x. Reads the weights of the columns in
/// squares of kLanes x kLanes, which it turns in registers; each line that is read prefetches one that far ahead in
/// memory.
template <int64_t M, class Y>
void stream_columns(const Tensor& x, const Tensor& weight, int64_t begin, int64_t end,
                    const LinearOutput<float, Y>& output) {
  const int64_t k = x.columns(), stride = weight.row_stride;
  const float* row[kStreamedColumns];
  for (int64_t j = 0; j < kStreamedColumns; ++j) row[j] = weight.as<float>() + std::min(begin + j, end - 1) * stride;
  const float* ahead = weight.as<float>() + (begin + kStreamedColumns) * stride;
  Vec totals[M][2] = {};
  for (int64_t first = 0; first < k; first += kStretch) {
    Vec sums[M][2] = {};
    const auto square = [&](int64_t half, int64_t l, int64_t count, const auto& read) __attribute__((always_inline)) {
      Vec v[kLanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        v[i] = read(row[half * kLanes + i] + l);
        if (i % (16 / kLanes) == 0) {
          __builtin_prefetch(ahead);
          ahead += 16;
        }
      }
      transpose(v);
      const float* from = x.as<float>() + l;
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) {
        if (i == count) break;
        for (int64_t r = 0; r < M; ++r) sums[r][half] += splat(from[r * x.row_stride + i]) * v[i];
      }
    };
    const int64_t last = std::min(k, first + kStretch);
    int64_t l = first;
    for (; l + kLanes <= last; l += kLanes)
      for (int64_t half = 0; half < 2; ++half) square(half, l, kLanes, [](const float* p) { return load(p); });
    for (int64_t half = 0; l < last && half < 2; ++half)
      square(half, l, last - l, [&](const float* p) { return load_first(p, last - l); });
    for (int64_t r = 0; r < M; ++r)
      for (int64_t half = 0; half < 2; ++half)
        totals[r][half] = first == 0 ? sums[r][half] : totals[r][half] + sums[r][half];
  }
  for (int64_t r = 0; r < M; ++r)
    for (int64_t half = 0; half < 2 && begin + half * kLanes < end; ++half)
      output.put(r, begin + half * kLanes, totals[r][half], std::min(kLanes, end - begin - half * kLanes));
}

/// Columns [begin, end) of y for all rows of x, at most kMostStreamedRows.
template <class Y>
void linear_stream(const Tensor& x, const Tensor& weight, int64_t begin, int64_t end,
                   const LinearOutput<float, Y>& output) {
  with_count(x.rows(), [&](auto rows) {
    for (int64_t j = begin; j < end; j += kStreamedColumns)
      stream_columns<rows()>(x, weight, j, std::min(end, j + kStreamedColumns), output);
  });
}

}  // namespace mor::MOR_CPU_ISA
