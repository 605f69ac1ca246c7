// What every kernel with tiles of bfloat16 needs: their size, the transpose of their words, and for AMX the
// configuration.
#pragma once

#if defined(__AMX_BF16__)

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"
#include "cpu/transpose.h"

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

/// Transposes 16 x 16 words of 32 bits.
inline void transpose(__m512i (&rows)[16]) {
  Vec v[16];
  for (int i = 0; i < 16; ++i) v[i] = reinterpret_cast<Vec>(rows[i]);
  transpose(v);
  for (int i = 0; i < 16; ++i) rows[i] = reinterpret_cast<__m512i>(v[i]);
}

}  // namespace mor::MOR_CPU_ISA

#endif
