// The turn of one row's heads, for rotary and qkv. Must not know of tensors or threads.
#pragma once

#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

/// to = from turned by the angles of one position (cosines, then sines, of half a head), the sines times `direction`.
/// to may be from.
template <class From, class To>
inline void turn_heads(const From* from, To* to, int64_t columns, int64_t head_dim, const float* angles,
                       float direction) {
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < columns; head += head_dim)
    for_lanes(half, [&](int64_t j, auto part) {
      const Vec a = part.load(from + head + j), b = part.load(from + head + half + j);
      const Vec cosine = part.load(angles + j), sine = part.load(angles + half + j) * direction;
      part.store(to + head + j, a * cosine - b * sine);
      part.store(to + head + half + j, b * cosine + a * sine);
    });
}

}  // namespace mor::MOR_CPU_ISA
