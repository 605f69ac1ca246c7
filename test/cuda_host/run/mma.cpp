// mma.sync on the host: the lanes exchange their fragments, and each computes its own four elements.
#include "test/cuda_host/run/mma.h"

#include <cstring>

#include "test/cuda_host/run/block.h"

namespace mor::cuda_host {

namespace {

struct Fragments {
  uint32_t a[4], b[2];
};

float half(uint32_t packed, int i) {
  const uint32_t bits = packed >> (16 * i) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// A row of a or a column of b. Lane q of four has depth 2q and 2q + 1 in one register, 2q + 8 and 2q + 9 in another.
void unpack(float (&to)[16], const uint32_t (&low)[4], const uint32_t (&high)[4]) {
  for (int q = 0; q < 4; ++q)
    for (int i = 0; i < 2; ++i) {
      to[2 * q + i] = half(low[q], i);
      to[8 + 2 * q + i] = half(high[q], i);
    }
}

}  // namespace

void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const Meeting meeting(0xffffffffu, "mma.sync", Fragments{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}});
  const int group = lane() / 4, pair = 2 * (lane() % 4);
  Fragments of_row[4], of_column[2][4];
  for (int q = 0; q < 4; ++q) {
    of_row[q] = meeting.from<Fragments>(4 * group + q);
    for (int column = 0; column < 2; ++column) of_column[column][q] = meeting.from<Fragments>(4 * (pair + column) + q);
  }
  for (int row = 0; row < 2; ++row)
    for (int column = 0; column < 2; ++column) {
      uint32_t left[2][4], right[2][4];
      for (int part = 0; part < 2; ++part)
        for (int q = 0; q < 4; ++q) {
          left[part][q] = of_row[q].a[2 * part + row];
          right[part][q] = of_column[column][q].b[part];
        }
      float x[16], y[16];
      unpack(x, left[0], left[1]);
      unpack(y, right[0], right[1]);
      for (int k = 0; k < 16; ++k) d[2 * row + column] += x[k] * y[k];
    }
}

}  // namespace mor::cuda_host
