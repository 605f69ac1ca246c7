// The rotation of heads by the angles of one position, for rotary and qkv.
#pragma once

#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

/// Calls put(j, part, values) for every vector of one rotated head, where values are elements j, j + 1, …. The vector
/// at j + head_dim / 2 follows the one at j, and both are read before the first call, so put may overwrite `head`.
/// angles: cosines, then sines, of head_dim / 2 angles. direction: 1, or -1 for the rotation back.
template <class T, class Put>
inline void rotate_head(const T* head, int64_t head_dim, const float* angles, float direction, const Put& put) {
  const int64_t half = head_dim / 2;
  for_lanes(half, [&](int64_t j, auto part) {
    const Vec a = part.load(head + j), b = part.load(head + half + j);
    const Vec cosine = part.load(angles + j), sine = part.load(angles + half + j) * direction;
    put(j, part, a * cosine - b * sine);
    put(half + j, part, b * cosine + a * sine);
  });
}

/// Writes `columns` elements of whole heads from `from` to `to`, each head rotated. to may be from.
template <class T>
inline void rotate_heads(const T* from, T* to, int64_t columns, int64_t head_dim, const float* angles,
                         float direction) {
  for (int64_t head = 0; head < columns; head += head_dim)
    rotate_head(from + head, head_dim, angles, direction,
                [&](int64_t j, auto part, Vec values) { part.store(to + head + j, values); });
}

}  // namespace mor::MOR_CPU_ISA
