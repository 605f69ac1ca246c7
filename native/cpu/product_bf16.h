// The tile of bfloat16 panels (product.h) for the instruction of arm64 that multiplies 2 x 4 by 4 x 2 (BFMMLA).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "core/dtype.h"
#include "cpu/product_float.h"

namespace mor::MOR_CPU_ISA {

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)

/// Panels of bfloat16 in which four depths of a row (of a) or a column (of b) lie together, then those of the next one:
/// a register holds two rows or two columns. Depths that an operand does not have are 0.
struct Bf16Panels {
  using Element = bfloat16;
  static constexpr int64_t kGroup = 4;
  static constexpr int64_t kRowsTogether = 2;
  using Multiply = void (*)(const bfloat16* a, const bfloat16* b, int64_t depth, float* c, int64_t c_stride, bool add);

  /// As FloatPanels::pack_across; four rows are interleaved while they are stored.
  static void pack_across(const bfloat16* x, int64_t stride, int64_t depth, int64_t columns, int64_t width,
                          int64_t count, int64_t piece, bfloat16* panels) {
    for (int64_t l = 0; l < depth; l += kGroup, x += kGroup * stride)
      for (int64_t p = 0; p < count; ++p) {
        const bfloat16* from = x + p * width;
        bfloat16* to = panels + p * piece + l * width;
        const int64_t left = columns - p * width;
        for (int64_t j = 0; j < std::min(width, left); j += kLanes) {
          uint16x4x4_t rows;
          for (int64_t d = 0; d < kGroup; ++d)
            rows.val[d] = words(from + d * stride + j, l + d < depth ? std::min(kLanes, left - j) : 0);
          vst4_u16(&(to + j * kGroup)->bits, rows);
        }
      }
  }

  /// As FloatPanels::pack_along.
  static void pack_along(const bfloat16* x, int64_t stride, int64_t depth, int64_t rows, int64_t width,
                         bfloat16* panel) {
    for (int64_t j = 0; j < std::min(width, rows); ++j)
      for (int64_t l = 0; l < depth; l += kGroup)
        vst1_u16(&(panel + l * width + j * kGroup)->bits, words(x + j * stride + l, std::min(kGroup, depth - l)));
  }

  /// c [2 P, kTileWidth] = a b, or += if add, over `depth` steps of both panels.
  template <int64_t P>
  static void multiply(const bfloat16* a, const bfloat16* b, int64_t depth, float* c, int64_t c_stride, bool add) {
    constexpr int64_t kPairs = kTileWidth / 2, kRegister = 2 * kGroup;
    Vec sums[P][kPairs] = {};  // two rows by two columns each
    for (int64_t l = 0; l < depth; l += kGroup, a += P * kRegister, b += kPairs * kRegister) {
      bfloat16x8_t rows[P];
      for (int64_t p = 0; p < P; ++p) rows[p] = pair(a + p * kRegister);
#pragma GCC unroll 16
      for (int64_t j = 0; j < kPairs; ++j) {
        // GCC would otherwise read all columns first, for which there are too few registers.
        if (j % 2 == 0) asm volatile("" ::: "memory");
        const bfloat16x8_t columns = pair(b + j * kRegister);
        for (int64_t p = 0; p < P; ++p) sums[p][j] = vbfmmlaq_f32(sums[p][j], rows[p], columns);
      }
    }
#pragma GCC unroll 16
    for (int64_t p = 0; p < P; ++p)
#pragma GCC unroll 16
      for (int64_t j = 0; j < kPairs; j += 2) {
        float *upper = c + 2 * p * c_stride + 2 * j, *lower = upper + c_stride;
        const Vec first = __builtin_shufflevector(sums[p][j], sums[p][j + 1], 0, 1, 4, 5);
        const Vec second = __builtin_shufflevector(sums[p][j], sums[p][j + 1], 2, 3, 6, 7);
        store(upper, add ? load(upper) + first : first);
        store(lower, add ? load(lower) + second : second);
      }
  }

  static Multiply multiply_of(int64_t height) {
    static constexpr Multiply functions[] = {multiply<1>, multiply<2>, multiply<3>, multiply<4>};
    static_assert(std::size(functions) == kTileHeight / kRowsTogether);
    return functions[height / kRowsTogether - 1];
  }

 private:
  static bfloat16x8_t pair(const bfloat16* p) {
    return vld1q_bf16(reinterpret_cast<const bfloat16_t*>(p));
  }
  /// The first n <= 4 of four words, and 0 for the others.
  static uint16x4_t words(const bfloat16* p, int64_t n) {
    if (n == kGroup) return vld1_u16(&p->bits);
    uint16_t some[kGroup] = {};
    if (n > 0) std::memcpy(some, p, static_cast<size_t>(n) * sizeof(bfloat16));
    return vld1_u16(some);
  }
};

#endif

}  // namespace mor::MOR_CPU_ISA
