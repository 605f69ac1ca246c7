// What attention's bfloat16 kernels share: the four layouts in which rows are packed into tiles, products of two by two
// tiles by either instruction, and powers of two.
//
// A tile is 16 rows of 64 bytes. In a product c += a b, a is a tile of [16, 32] bfloat16, b one of [32, 16] whose rows
// 2p and 2p + 1 are interleaved in row p of the tile, and c one of [16, 16] floats. Rows are packed in groups of 32; a
// packed group has 32 * padded_dim elements in every layout.
#pragma once

#include <optional>

#include "cpu/amx.h"
#include "cpu/attention_tile.h"

#if defined(__AVX512BF16__)

namespace mor::MOR_CPU_ISA {

constexpr float kLog2e = 1.44269504088896341f, kLn2 = 0.693147180559945309f;
/// The score of a key that a lane does not see: far below every real score, but finite, so that differences are
/// numbers.
constexpr float kUnseen = -1e30f;

/// staged [32, padded_dim] = rows 0 … n-1, then rows of zeros.
inline void stage_rows(const bfloat16* const* row, int64_t n, const AttentionCall& call, bfloat16* staged) {
  for (int64_t c = 0; c < call.padded_dim; c += 32) {
    const int64_t left = std::min<int64_t>(32, call.head_dim - c);
    const __mmask32 mask = static_cast<__mmask32>((uint64_t{1} << left) - 1);
    for (int64_t i = 0; i < 32; ++i)
      _mm512_storeu_si512(staged + i * call.padded_dim + c,
                          i < n ? _mm512_maskz_loadu_epi16(mask, row[i] + c) : _mm512_setzero_si512());
  }
}

/// a = the rows. Tile (i, c), i < 2: 16 rows, 32 dims.
inline void pack_as_rows(const bfloat16* staged, int64_t dims, bfloat16* to) {
  for (int64_t i = 0; i < 32; ++i)
    for (int64_t c = 0; c < dims; c += 32)
      _mm512_storeu_si512(to + (i / 16 * (dims / 32) + c / 32) * kTileElements + i % 16 * 32,
                          _mm512_loadu_si512(staged + i * dims + c));
}

/// b = the rows transposed. Tile (i, c), i < 2: 32 dims, 16 rows.
inline void pack_as_columns(const bfloat16* staged, int64_t dims, bfloat16* to) {
  for (int64_t i = 0; i < 32; i += 16)
    for (int64_t c = 0; c < dims; c += 32, to += kTileElements) {
      __m512i v[16];
      for (int64_t r = 0; r < 16; ++r) v[r] = _mm512_loadu_si512(staged + (i + r) * dims + c);
      transpose(v);
      for (int64_t r = 0; r < 16; ++r) _mm512_storeu_si512(to + r * 32, v[r]);
    }
}

/// Dims [c, c + 16) of rows 2p and 2p + 1, interleaved.
inline __m512i row_pair(const bfloat16* staged, int64_t dims, int64_t p, int64_t c) {
  const auto half = [&](int64_t row) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(staged + row * dims + c)));
  };
  return _mm512_or_si512(half(2 * p), _mm512_slli_epi32(half(2 * p + 1), 16));
}

/// b = the rows. Tile d: 32 rows, 16 dims.
inline void pack_as_pairs(const bfloat16* staged, int64_t dims, bfloat16* to) {
  for (int64_t c = 0; c < dims; c += 16, to += kTileElements)
    for (int64_t p = 0; p < 16; ++p) _mm512_storeu_si512(to + p * 32, row_pair(staged, dims, p, c));
}

/// a = the rows transposed. Tile d: 16 dims, 32 rows.
inline void pack_transposed(const bfloat16* staged, int64_t dims, bfloat16* to) {
  for (int64_t c = 0; c < dims; c += 16, to += kTileElements) {
    __m512i v[16];
    for (int64_t p = 0; p < 16; ++p) v[p] = row_pair(staged, dims, p, c);
    transpose(v);
    for (int64_t p = 0; p < 16; ++p) _mm512_storeu_si512(to + p * 32, v[p]);
  }
}

/// Which keys of which (sequence, key head) a thread has packed.
class PackedKeys {
 public:
  /// Packs the keys of a task that are not packed yet, in groups of 32 from `first` on: pack_keys(first) when the keys
  /// of a group are in `staged`, and pack_values(first) when its values are.
  template <class PackKeys, class PackValues>
  void take(const AttentionCall& call, const AttentionTask& task, bfloat16* staged, const PackKeys& pack_keys,
            const PackValues& pack_values) {
    if (task.sequence != sequence_ || task.key_head != key_head_) packed_ = 0;
    sequence_ = task.sequence;
    key_head_ = task.key_head;
    // The last group may be partial; it is packed again when a later task sees more of it.
    for (int64_t first = packed_ / 32 * 32; first < task.key_end; first += 32) {
      const int64_t n = std::min<int64_t>(32, task.key_end - first);
      const bfloat16* row[32];
      find_keys(call, call.k, task.sequence, task.key_head, first, n, row);
      stage_rows(row, n, call, staged);
      pack_keys(first);
      find_keys(call, call.v, task.sequence, task.key_head, first, n, row);
      stage_rows(row, n, call, staged);
      pack_values(first);
    }
    packed_ = std::max(packed_, task.key_end);
  }

 private:
  int64_t sequence_ = -1, key_head_ = -1, packed_ = 0;
};

/// Two tiles, one below the other, `apart` elements from each other; the next such pair begins `step` elements later.
struct TilePair {
  const bfloat16* first;
  int64_t apart, step;
};

/// A block of 32 x 32 floats in memory, to which a product is added, or which it overwrites.
struct FloatBlock {
  float* first;
  int64_t stride;
  bool add;
};

/// c = or += the sum over n steps of a b, by AMX. Tiles 0 1 / 2 3 accumulate the quarters of c.
inline void multiply_by_amx(const TilePair& a, const TilePair& b, int64_t n, const FloatBlock& c) {
  asm volatile("" ::: "memory");  // the compiler does not know that tile loads read memory
  const int64_t bytes = c.stride * 4;
  float *upper = c.first, *lower = c.first + kTileRows * c.stride;
  if (c.add) {
    _tile_loadd(0, upper, bytes);
    _tile_loadd(1, upper + kTileRows, bytes);
    _tile_loadd(2, lower, bytes);
    _tile_loadd(3, lower + kTileRows, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t i = 0; i < n; ++i) {
    _tile_loadd(4, a.first + i * a.step, 64);
    _tile_loadd(6, b.first + i * b.step, 64);
    _tile_loadd(7, b.first + b.apart + i * b.step, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a.first + a.apart + i * a.step, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, upper, bytes);
  _tile_stored(1, upper + kTileRows, bytes);
  _tile_stored(2, lower, bytes);
  _tile_stored(3, lower + kTileRows, bytes);
}

/// The same by VDPBF16PS, eight rows of c at a time: their sums fill half of the registers, and a word of two depths of
/// a row of a is multiplied with those depths of all columns.
inline void multiply_by_pairs(const TilePair& a, const TilePair& b, int64_t n, const FloatBlock& c) {
  constexpr int64_t kRows = 8, kPairs = kTileDepth / 2;
  for (int64_t row = 0; row < 2 * kTileRows; row += kRows) {
    const bfloat16* rows = a.first + row / kTileRows * a.apart + row % kTileRows * kTileDepth;
    float* sums_at = c.first + row * c.stride;
    Vec sums[kRows][2] = {};
    for (int64_t r = 0; c.add && r < kRows; ++r)
      for (int64_t u = 0; u < 2; ++u) sums[r][u] = load(sums_at + r * c.stride + u * kLanes);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t p = 0; p < kPairs; ++p) {
        Pairs columns[2];
        for (int64_t u = 0; u < 2; ++u) columns[u] = load_pairs(b.first + u * b.apart + i * b.step + p * kTileDepth);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kRows; ++r) {
          const Pairs values = splat_pair(rows + i * a.step + r * kTileDepth + 2 * p);
          for (int64_t u = 0; u < 2; ++u) sums[r][u] = multiply_add(sums[r][u], columns[u], values);
        }
      }
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t u = 0; u < 2; ++u) store(sums_at + r * c.stride + u * kLanes, sums[r][u]);
  }
}

/// Products of tiles on the calling thread: by AMX where the process may use it.
class TileProducts {
 public:
  /// To be called by the thread that multiplies; with AMX its tiles stay configured as long as this object lives.
  void begin(bool amx) {
    if (amx && !scope_) scope_.emplace();
  }
  /// c = or += the sum over n steps of a b.
  void multiply(const TilePair& a, const TilePair& b, int64_t n, const FloatBlock& c) const {
    if (scope_) {
      multiply_by_amx(a, b, n, c);
    } else {
      multiply_by_pairs(a, b, n, c);
    }
  }

 private:
  std::optional<TileScope> scope_;
};

/// 2^x with a relative error of about 1e-7, and 0 for very small x: a polynomial of degree 5 in x - floor(x), fitted
/// here for the least relative error.
inline __m512 exp2_of(__m512 x) {
  const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 p = _mm512_set1_ps(1.8775766704773877e-3f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.989340340151392e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.582631758795331e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.401536173301132e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931530731374279e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.999999250670478e-1f));
  return _mm512_scalef_ps(p, x);
}

/// 32 bfloat16: the values of a, then those of b.
inline __m512i round_two(__m512 a, __m512 b) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
}
/// 32 bfloat16: the values of a and b in turn.
inline __m512i round_pairs(__m512 a, __m512 b) {
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), round_two(a, b));
}

/// Writes lanes [0, count) of a transposed [padded_dim, stride] block, each times its factor. Where the factor is 0 it
/// writes 0, whatever the block holds.
template <class At>
void write_transposed(const AttentionCall& call, const float* block, int64_t stride, const float* factor, int64_t count,
                      const At& lane_at) {
  for (int64_t x = 0; x < count; x += 16) {
    const __m512 factors = _mm512_loadu_ps(factor + x);
    const __mmask16 nonzero = _mm512_cmp_ps_mask(factors, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    for (int64_t c = 0; c < call.head_dim; c += 16) {
      __m512i v[16];
      for (int64_t i = 0; i < 16; ++i)
        v[i] = reinterpret_cast<__m512i>(
            _mm512_maskz_mul_ps(nonzero, _mm512_loadu_ps(block + (c + i) * stride + x), factors));
      transpose(v);
      const __mmask16 mask = static_cast<__mmask16>((1u << std::min<int64_t>(16, call.head_dim - c)) - 1);
      for (int64_t i = 0; i < std::min<int64_t>(16, count - x); ++i)
        _mm256_mask_storeu_epi16(lane_at(x + i) + c, mask,
                                 reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v[i]))));
    }
  }
}

}  // namespace mor::MOR_CPU_ISA

#endif
