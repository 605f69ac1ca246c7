// mma.sync on the host: the lanes exchange their fragments, and the last one to arrive computes the product for all.
#include "test/cuda_host/run/mma.h"

#include <cstring>

#include "test/cuda_host/run/block.h"

namespace mor::cuda_host {

namespace {

struct Fragments {
  uint32_t a[4], b[2];
  float d[4];
};

float half(uint32_t packed, int i) {
  const uint32_t bits = packed >> (16 * i) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// Lane l has row l / 4 of a (and 8 rows below), column l / 4 of b, and of d row l / 4 and two columns. With q = l % 4
/// its depths are 2q and 2q + 1 in one register, 2q + 8 and 2q + 9 in another, and its columns of d are 2q and 2q + 1.
void multiply(Meeting::Values& values) {
  Fragments lanes[kWarpSize];
  for (int l = 0; l < kWarpSize; ++l) std::memcpy(&lanes[l], values[l], sizeof lanes[l]);
  float a[16][16], b[16][8], d[16][8];
  for (int l = 0; l < kWarpSize; ++l) {
    const int group = l / 4, pair = 2 * (l % 4);
    for (int part = 0; part < 2; ++part)
      for (int i = 0; i < 2; ++i) {
        const int depth = 8 * part + pair + i;
        b[depth][group] = half(lanes[l].b[part], i);
        for (int row = 0; row < 2; ++row) a[group + 8 * row][depth] = half(lanes[l].a[2 * part + row], i);
        d[group + 8 * part][pair + i] = lanes[l].d[2 * part + i];
      }
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  for (int l = 0; l < kWarpSize; ++l) {
    for (int row = 0; row < 2; ++row)
      for (int i = 0; i < 2; ++i) lanes[l].d[2 * row + i] = d[l / 4 + 8 * row][2 * (l % 4) + i];
    std::memcpy(values[l], &lanes[l], sizeof lanes[l]);
  }
}

}  // namespace

void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Fragments mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}};
  const Meeting meeting(0xffffffffu, "mma.sync", &mine, sizeof mine, multiply);
  const auto product = meeting.from<Fragments>(lane());
  std::memcpy(d, product.d, sizeof d);
}

}  // namespace mor::cuda_host
