// What every kernel with AMX tiles needs: the tile configuration, the 16 x 16 transpose.
#pragma once

#if defined(__AMX_BF16__)

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"

namespace mor::MOR_CPU_ISA {

constexpr int64_t kTileRows = 16;   // rows of a tile, which are also the float columns of an accumulator tile
constexpr int64_t kTileDepth = 32;  // bfloat16 columns of a tile
constexpr int64_t kTileElements = kTileRows * kTileDepth;

/// Configures all eight tiles of the calling thread as 16 rows of 64 bytes, until the scope ends.
class TileScope {
 public:
  TileScope() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    _tile_loadconfig(&config);
  }
  ~TileScope() { _tile_release(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

/// Transposes 16 x 16 words of 32 bits in registers. It is written with shuffles of vectors because GCC 12 warns of
/// uninitialised values inside its own intrinsics for the same instructions.
inline void transpose(__m512i (&rows)[16]) {
  typedef int32_t Words __attribute__((vector_size(64)));
  Words v[16], t[16];
  for (int i = 0; i < 16; ++i) v[i] = reinterpret_cast<Words>(rows[i]);
  for (int i = 0; i < 16; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      const Words a = t[i + j], b = t[i + 2 + j];
      v[i + 2 * j] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      v[i + 2 * j + 1] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  const auto even_quarters = [](Words a, Words b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  };
  const auto odd_quarters = [](Words a, Words b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      t[i + j] = even_quarters(v[i + j], v[i + 4 + j]);
      t[i + 4 + j] = odd_quarters(v[i + j], v[i + 4 + j]);
    }
  for (int j = 0; j < 8; ++j) {
    rows[j] = reinterpret_cast<__m512i>(even_quarters(t[j], t[8 + j]));
    rows[8 + j] = reinterpret_cast<__m512i>(odd_quarters(t[j], t[8 + j]));
  }
}

}  // namespace mor::MOR_CPU_ISA

#endif
