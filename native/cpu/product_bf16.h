// The tile of bfloat16 panels (product.h): for the instruction of x86-64 that adds products in pairs (VDPBF16PS), and
// for the one of arm64 that multiplies 2 x 4 by 4 x 2 (BFMMLA).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "cpu/product_float.h"

namespace mor::MOR_CPU_ISA {

#if defined(__AVX512BF16__)

/// Panels of bfloat16 in which two depths of a row (of a) or a column (of b) lie together, as one word, then those of
/// the next one. A depth that an operand does not have is 0.
struct Bf16Panels {
  using Element = bfloat16;
  static constexpr int64_t kGroup = 2;
  static constexpr int64_t kRowsTogether = 1;
  using Multiply = void (*)(const bfloat16* a, const bfloat16* b, int64_t depth, float* c, int64_t c_stride, bool add);

  // Packing writes whole vectors, as that of FloatPanels does.

  /// As FloatPanels::pack_across, for two steps of the depth or the last one: rows of x, which are interleaved.
  static void pack_across(const bfloat16* x, int64_t stride, int64_t depth, int64_t n, bfloat16* to) {
    const __mmask16 lanes = static_cast<__mmask16>((1u << n) - 1);
    const __m512i upper = halves(x, lanes), lower = halves(x + stride, depth == kGroup ? lanes : __mmask16{0});
    _mm512_storeu_si512(to, _mm512_or_si512(upper, _mm512_slli_epi32(lower, 16)));
  }

  /// As FloatPanels::pack_along; words are turned instead of numbers.
  static void pack_along(const bfloat16* x, int64_t stride, int64_t depth, int64_t rows, int64_t width,
                         bfloat16* panel) {
    constexpr int64_t kSquare = kGroup * kLanes;  // depths
    for (int64_t j = (std::min(width, rows) - 1) / kLanes * kLanes; j >= 0; j -= kLanes)
      for (int64_t l = 0; l < depth; l += kSquare) {
        const __mmask32 lanes = static_cast<__mmask32>((uint64_t{1} << std::min(kSquare, depth - l)) - 1);
        Vec v[kLanes];
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i)
          v[i] = reinterpret_cast<Vec>(_mm512_maskz_loadu_epi16(lanes, x + std::min(j + i, rows - 1) * stride + l));
        transpose(v);
        const int64_t groups = std::min(kLanes, (depth - l + 1) / kGroup);
        for (int64_t i = 0; i < groups; ++i)
          _mm512_storeu_si512(panel + (l + i * kGroup) * width + j * kGroup, reinterpret_cast<__m512i>(v[i]));
      }
  }

  /// c [M, kTileWidth] = a b, or += if add, over `depth` steps of both panels.
  template <int64_t M>
  static void multiply(const bfloat16* a, const bfloat16* b, int64_t depth, float* c, int64_t c_stride, bool add) {
    Vec sums[M][kTileVectors] = {};
    for (int64_t l = 0; l < depth; l += kGroup, a += kGroup * M, b += kGroup * kTileWidth) {
      Pairs row[kTileVectors];
      for (int64_t j = 0; j < kTileVectors; ++j) row[j] = load_pairs(b + j * kGroup * kLanes);
#pragma GCC unroll 16
      for (int64_t i = 0; i < M; ++i) {
        const Pairs values = splat_pair(a + i * kGroup);
        for (int64_t j = 0; j < kTileVectors; ++j) sums[i][j] = multiply_add(sums[i][j], row[j], values);
      }
    }
    store_tile(sums, c, c_stride, add);
  }

 private:
  /// Each of 16 bfloat16 in the lower half of a word, and 0 for those that `lanes` leaves out, which are not read.
  static __m512i halves(const bfloat16* p, __mmask16 lanes) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, p));
  }
};

#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)

/// Panels of bfloat16 in which four depths of a row (of a) or a column (of b) lie together, then those of the next one:
/// a register holds two rows or two columns. Depths that an operand does not have are 0.
struct Bf16Panels {
  using Element = bfloat16;
  static constexpr int64_t kGroup = 4;
  static constexpr int64_t kRowsTogether = 2;
  using Multiply = void (*)(const bfloat16* a, const bfloat16* b, int64_t depth, float* c, int64_t c_stride, bool add);

  /// As FloatPanels::pack_across, for up to four steps of the depth: rows of x, which are interleaved while they are
  /// stored.
  static void pack_across(const bfloat16* x, int64_t stride, int64_t depth, int64_t n, bfloat16* to) {
    uint16x4x4_t rows;
    for (int64_t d = 0; d < kGroup; ++d) rows.val[d] = words(x + d * stride, d < depth ? n : 0);
    vst4_u16(&to->bits, rows);
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
