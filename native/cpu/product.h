// c = a b by register tiles over packed operands: for float32 on every instruction set, and for bfloat16 where there
// are no AMX tiles. Operands are packed as float32, so bfloat16 costs nothing more than float32 once it is packed
// (product_float.h), or, where a processor multiplies bfloat16, for its instruction (product_bf16.h).
//
// Packing: a is cut into panels of up to kTileHeight rows, b into panels of kTileWidth columns. A panel is [depth,
// width], so a tile reads both panels in rising addresses: a few vectors of b and some numbers of each row of a for
// each step of the depth.
//
// The order of every sum depends on the depth alone: kStretch products are added one after another, and the sums of
// these stretches in turn. So a row gets the same bits alone and among others, in any tile and on any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "core/arena.h"
#include "core/team.h"
#include "cpu/product_bf16.h"
#include "cpu/product_float.h"

namespace mor::MOR_CPU_ISA {

// A block of c, and the packed operand that a task has for itself, fit the second-level cache.
#if defined(__AVX512F__)
constexpr int64_t kOwnBytes = 512 << 10, kBlockRows = 16 * kTileHeight, kBlockColumns = 256;
#else
constexpr int64_t kOwnBytes = 128 << 10, kBlockRows = 16 * kTileHeight, kBlockColumns = 128 / kTileWidth * kTileWidth;
#endif
constexpr int64_t kStretch = 256;     // of the depth: a panel of b of this depth stays in the first-level cache
constexpr int64_t kMostDepth = 2048;  // that is packed at a time
// The same where the wider operand has the depth in rows: a task then packs 64 neighbouring numbers of each row or
// more. Of fewer, nearly every read is another page.
constexpr int64_t kMostDepthAcross = kOwnBytes / (64 * static_cast<int64_t>(sizeof(float)));

/// How operands of type T are packed.
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
template <class T>
using PanelsOf = std::conditional_t<std::is_same_v<T, bfloat16>, Bf16Panels, FloatPanels>;
#else
template <class T>
using PanelsOf = FloatPanels;
#endif

/// One operand as it lies in memory: of a, rows [m] of the depth (along) or the depth in rows of m; of b, likewise with
/// n.
template <class T>
struct ProductOperand {
  const T* data;
  int64_t stride;
  bool along;  ///< whether a row in memory runs along the depth
};

constexpr int64_t parts_of(int64_t n, int64_t part) {
  return (n + part - 1) / part;
}

/// The panels of one operand over some depth. Packed, they lie stretch by stretch of the depth and in each of these
/// panel by panel, so that tiles of neighbouring panels read rising addresses.
template <class Format>
struct Panels {
  using Element = typename Format::Element;
  int64_t extent = 0, width = 0, depth = 0;  ///< rows of a or columns of b, those of a panel, the depth
  int64_t count() const { return parts_of(extent, width); }
  /// Elements of a panel in a stretch of l steps. Packing writes whole vectors, which may end after the panel.
  int64_t piece(int64_t l) const {
    constexpr int64_t kGroup = Format::kGroup;
    return parts_of(l, kGroup) * kGroup * width + (width % kLanes == 0 ? 0 : kLanes * kGroup);
  }
  /// Elements of `count` panels.
  int64_t size(int64_t count) const { return count * (depth / kStretch * piece(kStretch) + piece(depth % kStretch)); }
  /// Where the stretch that begins at l has panel `panel` of `count`.
  int64_t at(int64_t l, int64_t panel, int64_t count) const {
    return l / kStretch * count * piece(kStretch) + panel * piece(std::min(kStretch, depth - l));
  }

  /// Packs the stretch at l of panels [begin, end) as panels number, number + 1, … of `count` in `to`.
  template <class T>
  void pack(const ProductOperand<T>& operand, int64_t first_depth, int64_t l, int64_t begin, int64_t end, Element* to,
            int64_t number, int64_t count) const {
    const int64_t steps = std::min(kStretch, depth - l), first = begin * width;
    Element* panels = to + at(l, number, count);
    if (!operand.along)
      return pack_across(operand.data + (first_depth + l) * operand.stride + first, operand.stride, steps,
                         extent - first, end - begin, panels);
    for (int64_t panel = begin; panel < end; ++panel, panels += piece(steps))
      Format::pack_along(operand.data + panel * width * operand.stride + first_depth + l, operand.stride, steps,
                         extent - panel * width, width, panels);
  }

 private:
  /// For `number` panels: panel[l, j] = x[l, j] for j < width, where the next panel has the columns after these.
  /// x [steps, columns]. It reads whole rows, because x may be far wider than a page.
  template <class T>
  void pack_across(const T* x, int64_t stride, int64_t steps, int64_t columns, int64_t number, Element* panels) const {
    constexpr int64_t kGroup = Format::kGroup;
    const int64_t distance = piece(steps);
    for (int64_t l = 0; l < steps; l += kGroup, x += kGroup * stride)
      for (int64_t p = 0; p < number; ++p) {
        const int64_t left = columns - p * width;
        Element* to = panels + p * distance + l * width;
        for (int64_t j = 0; j < std::min(width, left); j += kLanes)
          Format::pack_across(x + p * width + j, stride, std::min(kGroup, steps - l), std::min(kLanes, left - j),
                              to + j * kGroup);
      }
  }
};

/// The loop of the format for panels of a with `height` rows.
template <class Format>
typename Format::Multiply multiply_of(int64_t height) {
  constexpr int64_t kTogether = Format::kRowsTogether;
  static constexpr auto functions = []<size_t... M>(std::index_sequence<M...>) {
    return std::array<typename Format::Multiply, sizeof...(M)>{
        Format::template multiply<static_cast<int64_t>(M) + 1>...};
  }
  (std::make_index_sequence<kTileHeight / kTogether>{});
  return functions[static_cast<size_t>(height / kTogether - 1)];
}

/// Packed panels [first, first + count) of an operand.
template <class Element>
struct PackedPanels {
  const Element* data;
  int64_t first, count;
};

/// Panels [begin, end) of a or of b.
struct PanelRange {
  int64_t begin, end;
};

/// Blocked products; their packed operands lie in `scratch`.
class BlockedProduct {
 public:
  BlockedProduct(Arena& scratch, int threads) : scratch_(scratch), threads_(threads) {}

  /// put(row, column, values, n) gets every n <= kLanes neighbouring values of c [m, n] = a b once.
  template <class T, class Put>
  void run(const ProductOperand<T>& a, const ProductOperand<T>& b, int64_t m, int64_t n, int64_t depth,
           const Put& put) {
    const ArenaScope scope(scratch_);
    using Format = PanelsOf<T>;
    constexpr int64_t kTogether = Format::kRowsTogether;
    const int64_t height = parts_of(parts_of(m, parts_of(m, kTileHeight)), kTogether) * kTogether;
    Panels<Format> rows{m, height, depth}, columns{n, kTileWidth, depth};
    float* sums = nullptr;
    const int64_t sums_stride = columns.count() * kTileWidth;
    const int64_t most_depth = (own_columns(rows, columns) ? b : a).along ? kMostDepth : kMostDepthAcross;
    if (depth > most_depth) sums = scratch_.array<float>(rows.count() * height * sums_stride);
    const int team = m * n * depth < kWorthATeam ? 1 : threads_;
    for (int64_t begin = 0; begin < depth; begin += most_depth) {
      rows.depth = columns.depth = std::min(most_depth, depth - begin);
      const bool last = begin + most_depth >= depth;
      const auto finish = [&](PanelRange i, PanelRange j, const float* c, int64_t stride) {
        if (!last) return;
        const int64_t i_end = std::min(m, i.end * height), j_end = std::min(n, j.end * kTileWidth);
        for (int64_t row = i.begin * height; row < i_end; ++row, c += stride)
          for (int64_t column = j.begin * kTileWidth, at = 0; column < j_end; column += kLanes, at += kLanes)
            put(row, column, load(c + at), std::min(kLanes, j_end - column));
      };
      multiply(a, b, rows, columns, begin, team, sums, sums_stride, std::ref(finish));
    }
  }

 private:
  /// Is given the sums of panels i and j of c, of which it may use those that are there, row by row `stride` apart.
  using Finish = std::function<void(PanelRange i, PanelRange j, const float* c, int64_t stride)>;

  /// Whether b is the wider operand, which is cut into tasks.
  template <class Format>
  static bool own_columns(const Panels<Format>& rows, const Panels<Format>& columns) {
    return rows.count() * rows.width <= columns.count() * columns.width;
  }

  static constexpr int64_t kWorthATeam = 1 << 20;  // multiplications
  static constexpr int64_t kPackedTogether = 16;   // panels

  /// Cuts the wider operand into tasks, each of which packs its own part; the other one is packed before.
  template <class T, class Format>
  void multiply(const ProductOperand<T>& a, const ProductOperand<T>& b, const Panels<Format>& rows,
                const Panels<Format>& columns, int64_t first_depth, int team, float* sums, int64_t sums_stride,
                const Finish& finish) {
    using Element = typename Format::Element;
    const ArenaScope scope(scratch_);
    const bool of_b = own_columns(rows, columns);
    const Panels<Format>&own = of_b ? columns : rows, &shared = of_b ? rows : columns;
    const ProductOperand<T>&own_operand = of_b ? b : a, &shared_operand = of_b ? a : b;
    const int64_t fit = std::max<int64_t>(1, kOwnBytes / (own.size(1) * static_cast<int64_t>(sizeof(Element))));
    const int64_t own_count = std::clamp<int64_t>(own.count() / (4 * team), 1, fit);
    const int64_t own_tasks = parts_of(own.count(), own_count);
    const int64_t shared_tasks = team == 1 ? 1 : std::min(shared.count(), parts_of(2 * team, own_tasks));
    Element* shared_panels = scratch_.array<Element>(shared.size(shared.count()));
    Element* own_panels = scratch_.array<Element>(team * own.size(own_count));
    float* blocks = sums == nullptr ? scratch_.array<float>(team * kBlockFloats) : nullptr;
    Team& members = Team::of_process();
    const int64_t groups = parts_of(shared.count(), kPackedTogether), stretches = parts_of(shared.depth, kStretch);
    members.run(groups * stretches, team, [&](int64_t part, int) {
      const int64_t begin = part % groups * kPackedTogether, end = std::min(shared.count(), begin + kPackedTogether);
      shared.pack(shared_operand, first_depth, part / groups * kStretch, begin, end, shared_panels, begin,
                  shared.count());
    });
    members.run(own_tasks * shared_tasks, team, [&](int64_t task, int thread) {
      const PanelRange mine{task / shared_tasks * own_count,
                            std::min(own.count(), (task / shared_tasks + 1) * own_count)};
      const int64_t part = task % shared_tasks;
      const PanelRange theirs{shared.count() * part / shared_tasks, shared.count() * (part + 1) / shared_tasks};
      Element* packed = own_panels + thread * own.size(own_count);
      for (int64_t l = 0; l < own.depth; l += kStretch)
        own.pack(own_operand, first_depth, l, mine.begin, mine.end, packed, 0, mine.end - mine.begin);
      const PanelRange i = of_b ? theirs : mine, j = of_b ? mine : theirs;
      const PackedPanels<Element> owned{packed, mine.begin, mine.end - mine.begin},
          common{shared_panels, 0, shared.count()};
      by_blocks(rows, columns, i, j, of_b ? common : owned, of_b ? owned : common, first_depth > 0, sums, sums_stride,
                blocks == nullptr ? nullptr : blocks + thread * kBlockFloats, finish);
    });
  }

  static constexpr int64_t kBlockFloats = kBlockRows * kBlockColumns;

  /// Computes the tiles of panels i and j, block by block. Sums go to `sums`, or, where there is none, to `block`.
  template <class Format, class Element>
  static void by_blocks(const Panels<Format>& rows, const Panels<Format>& columns, PanelRange i, PanelRange j,
                        const PackedPanels<Element>& a, const PackedPanels<Element>& b, bool add, float* sums,
                        int64_t sums_stride, float* block, const Finish& finish) {
    const int64_t height = rows.width, depth = rows.depth;
    const auto multiply = multiply_of<Format>(height);
    const int64_t i_step = kBlockRows / height, j_step = kBlockColumns / kTileWidth;
    for (int64_t i0 = i.begin; i0 < i.end; i0 += i_step)
      for (int64_t j0 = j.begin; j0 < j.end; j0 += j_step) {
        const int64_t i1 = std::min(i.end, i0 + i_step), j1 = std::min(j.end, j0 + j_step);
        const int64_t stride = sums == nullptr ? (j1 - j0) * kTileWidth : sums_stride;
        float* c = sums == nullptr ? block : sums + i0 * height * stride + j0 * kTileWidth;
        for (int64_t l = 0; l < depth; l += kStretch)
          for (int64_t q = j0; q < j1; ++q)
            for (int64_t p = i0; p < i1; ++p)
              multiply(a.data + rows.at(l, p - a.first, a.count), b.data + columns.at(l, q - b.first, b.count),
                       std::min(kStretch, depth - l), c + (p - i0) * height * stride + (q - j0) * kTileWidth, stride,
                       add || l > 0);
        finish(PanelRange{i0, i1}, PanelRange{j0, j1}, c, stride);
      }
  }

  Arena& scratch_;
  int threads_;
};

}  // namespace mor::MOR_CPU_ISA
