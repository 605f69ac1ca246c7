// The tile of float32 panels (product.h): how operands are packed as floats, and the loop over two packed panels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/transpose.h"

namespace mor::MOR_CPU_ISA {

// The accumulators of a tile, a row of b and what is read of a must fit the registers.
#if defined(__AVX512F__)
constexpr int64_t kTileHeight = 14, kTileVectors = 2;
#elif defined(__AVX2__)
constexpr int64_t kTileHeight = 6, kTileVectors = 2;
#else
constexpr int64_t kTileHeight = 8, kTileVectors = 3;
#endif
constexpr int64_t kTileWidth = kTileVectors * kLanes;

/// c [M, kTileWidth] = sums, or += if add.
template <int64_t M>
void store_tile(Vec (&sums)[M][kTileVectors], float* c, int64_t c_stride, bool add) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < M; ++i) {
    float* to = c + i * c_stride;
    for (int64_t j = 0; j < kTileVectors; ++j) {
      if (add) sums[i][j] += load(to + j * kLanes);
      store(to + j * kLanes, sums[i][j]);
    }
  }
}

/// Panels of floats, whatever the operands are: bfloat16 is widened while it is packed.
struct FloatPanels {
  using Element = float;
  static constexpr int64_t kGroup = 1;         ///< depths that lie together
  static constexpr int64_t kRowsTogether = 1;  ///< the height of a panel is a multiple of it
  using Multiply = void (*)(const float* a, const float* b, int64_t depth, float* c, int64_t c_stride, bool add);

  // Packing writes whole vectors: the lanes after the width are overwritten later, or lie after the panel.
  // What it writes for rows and columns that an operand does not have is never used.

  /// to[j] = x[j] for j < n <= kLanes: part of a step of the depth, which lies in a row of x.
  template <class T>
  static void pack_across(const T* x, int64_t, int64_t, int64_t n, float* to) {
    store(to, n == kLanes ? load(x) : load_first(x, n));
  }

  /// panel[l, j] = x[j, l] for j < width. x [rows, depth]. A panel of several vectors is written from its last one to
  /// its first, which then has the last word on what the last one wrote after the width.
  template <class T>
  static void pack_along(const T* x, int64_t stride, int64_t depth, int64_t rows, int64_t width, float* panel) {
    for (int64_t j = (std::min(width, rows) - 1) / kLanes * kLanes; j >= 0; j -= kLanes) {
      const T* row[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) row[i] = x + std::min(j + i, rows - 1) * stride;
      float* to = panel + j;
      const auto turn = [&](int64_t l, int64_t count, const auto& read) __attribute__((always_inline)) {
        Vec v[kLanes];
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) v[i] = read(row[i] + l);
        transpose(v);
        if (count == kLanes) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < kLanes; ++i) store(to + (l + i) * width, v[i]);
        } else {
          for (int64_t i = 0; i < count; ++i) store(to + (l + i) * width, v[i]);
        }
      };
      int64_t l = 0;
      for (; l + kLanes <= depth; l += kLanes) turn(l, kLanes, [](const T* p) { return load(p); });
      if (l < depth) turn(l, depth - l, [&](const T* p) { return load_first(p, depth - l); });
    }
  }

  /// c [M, kTileWidth] = a b, or += if add, over `depth` steps of both panels.
  template <int64_t M>
  static void multiply(const float* a, const float* b, int64_t depth, float* c, int64_t c_stride, bool add) {
    Vec sums[M][kTileVectors] = {};
    if (add)
      for (int64_t i = 0; i < M; ++i) {
        __builtin_prefetch(c + i * c_stride, 1);
        __builtin_prefetch(c + i * c_stride + kTileWidth - 1, 1);
      }
    for (int64_t l = 0; l < depth; ++l, a += M, b += kTileWidth) {
      Vec row[kTileVectors];
      for (int64_t j = 0; j < kTileVectors; ++j) row[j] = load(b + j * kLanes);
      [[maybe_unused]] Vec several;
#pragma GCC unroll 16
      for (int64_t i = 0; i < M; ++i) {
#if defined(__aarch64__)
        // A NEON multiply-add takes its number from any lane of a register. Reading each into one of its own costs
        // more.
        if (i % kLanes == 0) several = vld1q_f32(a + i);
        const Vec value = splat(several[i % kLanes]);
#else
        const Vec value = splat(a[i]);
#endif
        for (int64_t j = 0; j < kTileVectors; ++j) sums[i][j] += value * row[j];
      }
    }
    store_tile(sums, c, c_stride, add);
  }
};

}  // namespace mor::MOR_CPU_ISA
