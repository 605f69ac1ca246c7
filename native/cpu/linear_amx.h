// Matrix products by AMX tiles, c = a b in blocks of 32 x 32. a is read in place if its rows run along the depth (the
// extent that is summed over); b is packed.
#pragma once

#include "cpu/amx.h"

#if defined(__AMX_BF16__)

#include <algorithm>

#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

constexpr int64_t kBlock = 2 * kTileRows;  // rows and columns of a block of 2 x 2 accumulators

constexpr int64_t tiles_of(int64_t n) {
  return (n + kTileRows - 1) / kTileRows;
}
constexpr int64_t steps_of(int64_t depth) {
  return (depth + kTileDepth - 1) / kTileDepth;
}
constexpr int64_t blocks_of(int64_t n) {
  return (n + kBlock - 1) / kBlock;
}
/// Elements of n packed rows (or columns), padded to whole blocks.
constexpr int64_t packed_elements(int64_t n, int64_t depth) {
  return blocks_of(n) * 2 * steps_of(depth) * kTileElements;
}

// A packed matrix has one run of tiles along the depth for every 16 rows of a or columns of b, padded with 0 to whole
// tiles. Packed as rows (for a), row i of a tile holds 32 depths of row i. Packed as pairs (for b), row p of a tile
// holds depths 2p and 2p+1 of each of 16 columns.

/// Packs up to 16 rows of x [rows, depth] as pairs: b = x^T.
inline void pack_rows_as_pairs(const bfloat16* x, int64_t stride, int64_t rows, int64_t depth, bfloat16* packed) {
  for (int64_t begin = 0; begin < depth; begin += kTileDepth, packed += kTileElements) {
    const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << std::min(kTileDepth, depth - begin)) - 1);
    if (rows == 1) {  // a fast path, since decoding one sequence waits for this; all other columns are 0
      alignas(64) uint32_t pairs[kTileRows];
      _mm512_store_si512(pairs, _mm512_maskz_loadu_epi16(mask, x + begin));
      for (int64_t p = 0; p < kTileRows; ++p)
        _mm512_storeu_si512(packed + p * kTileDepth, _mm512_maskz_set1_epi32(1, static_cast<int>(pairs[p])));
      continue;
    }
    __m512i v[16];
    for (int64_t i = 0; i < kTileRows; ++i)
      v[i] = i < rows ? _mm512_maskz_loadu_epi16(mask, x + i * stride + begin) : _mm512_setzero_si512();
    transpose(v);
    for (int64_t i = 0; i < kTileRows; ++i) _mm512_storeu_si512(packed + i * kTileDepth, v[i]);
  }
}

/// Packs up to 32 rows of x [rows, depth] as rows: a = x, for x that cannot be read in place.
inline void pack_rows(const bfloat16* x, int64_t stride, int64_t rows, int64_t depth, bfloat16* packed) {
  const int64_t steps = steps_of(depth);
  for (int64_t i = 0; i < kBlock; ++i)
    for (int64_t s = 0; s < steps; ++s) {
      const int64_t left = std::min(kTileDepth, depth - s * kTileDepth);
      const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << left) - 1);
      _mm512_storeu_si512(
          packed + (i / kTileRows * steps + s) * kTileElements + i % kTileRows * kTileDepth,
          i < rows ? _mm512_maskz_loadu_epi16(mask, x + i * stride + s * kTileDepth) : _mm512_setzero_si512());
    }
}

/// Packs x [rows <= 32, columns], which is the depth of one tile, as pairs (b = x) or, turned, as rows (a = x^T). The
/// tiles of this depth are `run` elements apart. It reads whole rows, because x may be far wider than a page.
template <bool turned>
void pack_columns(const bfloat16* x, int64_t stride, int64_t rows, int64_t columns, bfloat16* packed, int64_t run) {
  for (int64_t c = 0; c < blocks_of(columns) * kBlock; c += kTileRows, packed += run) {
    const int64_t width = std::clamp<int64_t>(columns - c, 0, kTileRows);
    const __mmask16 mask = static_cast<__mmask16>((1u << width) - 1);
    const auto row = [&](int64_t i) {
      if (i >= rows) return VecU{};
      const __m256i values = _mm256_maskz_loadu_epi16(mask, x + i * stride + c);
      return __builtin_convertvector(reinterpret_cast<VecH>(values), VecU);
    };
    __m512i v[16];
    for (int64_t p = 0; p < 16; ++p) v[p] = reinterpret_cast<__m512i>(row(2 * p) | row(2 * p + 1) << 16);
    if (turned) transpose(v);
    for (int64_t p = 0; p < 16; ++p) _mm512_storeu_si512(packed + p * kTileDepth, v[p]);
  }
}

/// The address of a, packed or in place, and the distances in elements to the next row of a tile, to the next tile
/// along the depth, and to the next 16 rows.
struct TileRows {
  const bfloat16* data = nullptr;
  int64_t row = 0, step = 0, tile = 0;
  static TileRows packed(const bfloat16* data, int64_t steps) {
    return {data, kTileDepth, kTileElements, steps * kTileElements};
  }
  static TileRows as_it_lies(const bfloat16* data, int64_t stride) {
    return {data, stride, kTileDepth, kTileRows * stride};
  }
};

/// How many steps ahead rows that are read in place are prefetched: their cache lines are too far apart for the
/// hardware prefetcher.
constexpr int64_t kPrefetchSteps = 4;

/// c [32, 32] = a b over all steps, for one tile column of b (the right half of c is then not written) or two. next:
/// the block after a, to be prefetched, or null.
template <int columns>
void multiply_block(const TileRows& a, const bfloat16* b, int64_t steps, const bfloat16* next, float* c) {
  asm volatile("" ::: "memory");  // the compiler does not know that tile loads read memory
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s) {
    if (next != nullptr) {
      const int64_t ahead = s + kPrefetchSteps;
      const bfloat16* from = ahead < steps ? a.data + ahead * a.step : next + (ahead - steps) * a.step;
      for (int64_t i = 0; i < kBlock; ++i) _mm_prefetch(reinterpret_cast<const char*>(from + i * a.row), _MM_HINT_T0);
    }
    const bfloat16* upper = a.data + s * a.step;
    const bfloat16* left = b + s * kTileElements;
    const size_t a_bytes = static_cast<size_t>(a.row) * sizeof(bfloat16), b_bytes = kTileDepth * sizeof(bfloat16);
    _tile_loadd(6, left, b_bytes);
    _tile_loadd(4, upper, a_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (columns == 2) {
      _tile_loadd(7, left + steps * kTileElements, b_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_loadd(5, upper + a.tile, a_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (columns == 2) _tile_dpbf16ps(3, 5, 7);
  }
  constexpr size_t kRowBytes = kBlock * sizeof(float);
  _tile_stored(0, c, kRowBytes);
  _tile_stored(2, c + kTileRows * kBlock, kRowBytes);
  if constexpr (columns == 2) {
    _tile_stored(1, c + kTileRows, kRowBytes);
    _tile_stored(3, c + kTileRows * kBlock + kTileRows, kRowBytes);
  }
}

/// Gives the elements of c [rows, columns], rows of 32 floats, to write(row, column, values, n), n <= 16 neighbours at
/// a time; c is the block of the product that begins at (i, j). turned: of the transposed product.
template <bool turned, class Write>
void write_block(int64_t i, int64_t j, const float* c, int64_t rows, int64_t columns, const Write& write) {
  if constexpr (turned) {
    for (int64_t row = 0; row < rows; row += kTileRows)
      for (int64_t column = 0; column < columns; column += kTileRows) {
        __m512i v[16];
        for (int64_t r = 0; r < 16; ++r) v[r] = _mm512_loadu_si512(c + (row + r) * kBlock + column);
        transpose(v);
        for (int64_t r = 0; r < std::min(kTileRows, columns - column); ++r)
          write(j + column + r, i + row, reinterpret_cast<Vec>(v[r]), std::min(kTileRows, rows - row));
      }
  } else {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; column += kTileRows)
        write(i + row, j + column, load(c + row * kBlock + column), std::min(kTileRows, columns - column));
  }
}

/// One product: a [m, depth] times packed b [depth, n].
struct TileProduct {
  TileRows a;
  bool a_packed = false;
  int64_t m = 0, n = 0, depth = 0;
  const bfloat16* b = nullptr;

  // A task has about half a second-level cache of operands: a_blocks blocks of a stay in the cache while b_blocks
  // blocks of b pass. Tasks go through the blocks of a in the outer loop, so that a large a is read from memory once.
  int64_t a_blocks = 1, b_blocks = 1;
  int64_t b_tasks() const { return (blocks_of(n) + b_blocks - 1) / b_blocks; }
  int64_t tasks() const { return (blocks_of(m) + a_blocks - 1) / a_blocks * b_tasks(); }

  void plan(int64_t team) {
    constexpr int64_t kBytes = 512 << 10;
    const int64_t block_bytes = kBlock * steps_of(depth) * kTileDepth * static_cast<int64_t>(sizeof(bfloat16));
    a_blocks = b_blocks = std::clamp<int64_t>(kBytes / block_bytes, 2, 8);
    if (blocks_of(n) <= b_blocks)
      a_blocks = fairest(a_blocks, team);
    else
      while (a_blocks > 1 && tasks() < 4 * team) a_blocks /= 2;
  }

  /// For products whose b fits one task: how many blocks of a a task takes, at most `most`, so that the busiest thread
  /// has the least to do; of equal choices the largest.
  int64_t fairest(int64_t most, int64_t team) const {
    int64_t best = most, least = INT64_MAX;
    for (int64_t take = most; take > 0; --take) {
      const int64_t count = (blocks_of(m) + take - 1) / take, load = (count + team - 1) / team * take;
      if (load < least) best = take, least = load;
    }
    return best;
  }

  /// Computes one task, whose elements `write` gets (write_block). staging: memory for one packed block. The blocks of
  /// a turned product are taken columns first, so that it is written along its rows too.
  template <bool turned, class Write>
  void run(int64_t task, bfloat16* staging, const Write& write) const {
    alignas(64) float c[kBlock * kBlock];
    const int64_t steps = steps_of(depth), block_elements = 2 * steps * kTileElements;
    const int64_t i_begin = task / b_tasks() * a_blocks, i_end = std::min(blocks_of(m), i_begin + a_blocks);
    const int64_t j_begin = task % b_tasks() * b_blocks, j_end = std::min(blocks_of(n), j_begin + b_blocks);
    const auto block = [&](int64_t i, int64_t j) {
      const int64_t rows = std::min(kBlock, m - i * kBlock), columns = std::min(kBlock, n - j * kBlock);
      TileRows from = a;
      from.data += i * 2 * a.tile;
      const bfloat16* next = a_packed || j > j_begin || (i + 2) * kBlock > m ? nullptr : from.data + 2 * a.tile;
      if (!a_packed && (rows < kBlock || depth % kTileDepth != 0)) {
        pack_rows(from.data, a.row, rows, depth, staging);
        from = TileRows::packed(staging, steps);
      }
      if (columns > kTileRows)
        multiply_block<2>(from, b + j * block_elements, steps, next, c);
      else
        multiply_block<1>(from, b + j * block_elements, steps, next, c);
      write_block<turned>(i * kBlock, j * kBlock, c, rows, columns, write);
    };
    if constexpr (turned)
      for (int64_t j = j_begin; j < j_end; ++j)
        for (int64_t i = i_begin; i < i_end; ++i) block(i, j);
    else
      for (int64_t i = i_begin; i < i_end; ++i)
        for (int64_t j = j_begin; j < j_end; ++j) block(i, j);
  }
};

}  // namespace mor::MOR_CPU_ISA

#endif
