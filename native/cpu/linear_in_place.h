// linear forward of more bfloat16 rows than dot products are good for, and fewer than packing the weights pays for: the
// weights are read in place, once, and the rows of x are packed.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/linear_dot.h"
#include "cpu/product.h"
#include "cpu/transpose.h"

namespace mor::MOR_CPU_ISA {

#if defined(__AVX2__)

constexpr int64_t kInPlaceRows = 96;     ///< most rows that are worth it
constexpr int64_t kInPlaceColumns = 48;  ///< columns of a block of the output, a multiple of what a tile has

/// y = x weight^T. Where a processor multiplies bfloat16, x is packed in pairs of depths, otherwise as floats.
class InPlaceProduct {
 public:
  using Format = PanelsOf<bfloat16>;
  using Element = Format::Element;

  /// in: both operands, and `rows` rows of x. packed: of packed_elements().
  InPlaceProduct(const DotOperands& in, int64_t rows, Element* packed) : in_(in), rows_(rows), packed_(packed) {}
  static int64_t packed_elements(int64_t rows, int64_t k) { return parts_of(rows, kLanes) * kLanes * packed_depth(k); }

  /// Packs depths [begin, end) of x; begin is a multiple of 2 kLanes.
  void pack(int64_t begin, int64_t end) const {
    for_panels([&](int64_t first, auto vectors) {
      constexpr int64_t kWidth = vectors() * kLanes;
      Format::pack_along(in_.x + first * in_.x_stride + begin, in_.x_stride, end - begin, rows_ - first, kWidth,
                         panel(first) + begin * kWidth);
    });
  }

  /// Columns [begin, end) of y.
  template <class Y>
  void run(int64_t begin, int64_t end, const LinearOutput<bfloat16, Y>& output) const {
    for (; begin < end; begin += kInPlaceColumns) run_block(begin, std::min(end, begin + kInPlaceColumns), output);
  }

 private:
  static constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(bfloat16));  ///< weights of a cache line
  static constexpr int64_t kMostVectors = 4, kPanelRows = kMostVectors * kLanes;
  static constexpr int64_t kSums = kRegisters * 3 / 4;  ///< registers that the sums of a tile fill

  template <class Y>
  void run_block(int64_t begin, int64_t end, const LinearOutput<bfloat16, Y>& output) const {
    alignas(64) float sums[kInPlaceColumns][kPanelRows];
    for_panels([&](int64_t first, auto vectors) {
      constexpr int64_t kVectors = vectors(), kTogether = kSums / kVectors;
      int64_t column = begin;
      for (; column + kTogether <= end; column += kTogether)
        tile<kTogether, kVectors>(column, panel(first), sums[column - begin]);
      for (; column < end; ++column) tile<1, kVectors>(column, panel(first), sums[column - begin]);
      for (int64_t row = first; row < std::min(rows_, first + kVectors * kLanes); row += kLanes)
        for (column = begin; column < end; column += kLanes) {
          const int64_t count = std::min(kLanes, end - column);
          Vec v[kLanes];
          for (int64_t i = 0; i < kLanes; ++i) v[i] = load(sums[column - begin + std::min(i, count - 1)] + row - first);
          transpose(v);
          for (int64_t i = 0; i < std::min(kLanes, rows_ - row); ++i) output.put(row + i, column, v[i], count);
        }
    });
  }

  /// Calls body(first, vectors) for each panel: rows [first, first + vectors * kLanes) of x.
  template <class Body>
  void for_panels(const Body& body) const {
    for (int64_t first = 0; first < rows_; first += kPanelRows) {
      const int64_t vectors = parts_of(std::min(kPanelRows, rows_ - first), kLanes);
      with_count(vectors, [&](auto count) { body(first, count); });
    }
  }
  Element* panel(int64_t first) const { return packed_ + first * packed_depth(in_.k); }
  static int64_t packed_depth(int64_t k) { return parts_of(k, Format::kGroup) * Format::kGroup; }

  /// sums [M, kPanelRows] = columns [column, column + M) of y for the rows of a panel. The weights pass through a
  /// buffer, a cache line of each row at a time: numbers of M rows in place would need M addresses. It prefetches what
  /// lies behind these rows in the order of memory.
  template <int64_t M, int64_t V>
  void tile(int64_t column, const Element* x, float* sums) const {
    constexpr int64_t kStep = V * kLanes * Format::kGroup;
    const bfloat16* weight = in_.weight + column * in_.weight_stride;
    const bfloat16* ahead = weight + M * in_.weight_stride;
    alignas(64) Element line[M][kLine];
    Vec total[M][V] = {};
    const auto take = [&](int64_t depth) __attribute__((always_inline)) {
      for (int64_t c = 0; c < depth; c += Format::kGroup, x += kStep)
#pragma GCC unroll 24
        for (int64_t i = 0; i < M; ++i) add_products<V>(line[i] + c, x, total[i]);
    };
    int64_t l = 0;
    for (; l + kLine <= in_.k; l += kLine) {
      for (int64_t i = 0; i < M; ++i, ahead += kLine) {
        __builtin_prefetch(ahead, 0, 2);
        for (int64_t c = 0; c < kLine; c += kAtOnce) convert(weight + i * in_.weight_stride + l + c, line[i] + c);
      }
      take(kLine);
    }
    if (l < in_.k) {
      for (int64_t i = 0; i < M; ++i) {
        bfloat16 last[kLine] = {};
        std::memcpy(static_cast<void*>(last), weight + i * in_.weight_stride + l,
                    static_cast<size_t>(in_.k - l) * sizeof(bfloat16));
        for (int64_t c = 0; c < kLine; c += kAtOnce) convert(last + c, line[i] + c);
      }
      take(in_.k - l);
    }
    for (int64_t i = 0; i < M; ++i)
      for (int64_t v = 0; v < V; ++v) store(sums + i * kPanelRows + v * kLanes, total[i][v]);
  }

#if defined(__AVX512BF16__)
  /// to = from, kAtOnce weights.
  static constexpr int64_t kAtOnce = 2 * kLanes;
  static void convert(const bfloat16* from, bfloat16* to) {
    _mm512_store_si512(to, _mm512_loadu_si512(from));
  }
  /// total[v] += the products of two weights with two depths of kLanes rows of x.
  template <int64_t V>
  static void add_products(const bfloat16* weight, const bfloat16* x, Vec (&total)[V]) {
    const Pairs weights = splat_pair(weight);
    for (int64_t v = 0; v < V; ++v) total[v] = multiply_add(total[v], load_pairs(x + v * 2 * kLanes), weights);
  }
#else
  static constexpr int64_t kAtOnce = kLanes;
  static void convert(const bfloat16* from, float* to) {
    store(to, load(from));
  }
  /// total[v] += the products of a weight with one depth of kLanes rows of x.
  template <int64_t V>
  static void add_products(const float* weight, const float* x, Vec (&total)[V]) {
    const Vec weights = splat(*weight);
    for (int64_t v = 0; v < V; ++v) total[v] += weights * load(x + v * kLanes);
  }
#endif

  const DotOperands in_;
  const int64_t rows_;
  Element* const packed_;
};

#endif

}  // namespace mor::MOR_CPU_ISA
