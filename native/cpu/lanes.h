// A loop over a row in vectors, including the part of a vector at its end, and a small count as a constant.
#pragma once

#include <type_traits>

#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

struct WholeVector {
  template <class T>
  Vec load(const T* p) const {
    return MOR_CPU_ISA::load(p);
  }
  template <class T>
  void store(T* p, Vec v) const {
    MOR_CPU_ISA::store(p, v);
  }
};

struct FirstLanes {
  int64_t n;
  template <class T>
  Vec load(const T* p) const {
    return load_first(p, n);
  }
  template <class T>
  void store(T* p, Vec v) const {
    store_first(p, v, n);
  }
};

/// Calls body(part), where `part` accesses the first n <= kLanes elements.
template <class Body>
inline void with_lanes(int64_t n, const Body& body) {
  if (n == kLanes)
    body(WholeVector{});
  else
    body(FirstLanes{n});
}

/// Calls body(j, part) for j = 0, kLanes, … below n; part.load(x + j) and part.store(y + j, v) access elements below n
/// only.
template <class Body>
inline void for_lanes(int64_t n, const Body& body) {
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) body(j, WholeVector{});
  if (j < n) body(j, FirstLanes{n - j});
}

/// Calls body(integral_constant<int, N>) with N = n, 1 to 4.
template <class Body>
void with_count(int64_t n, const Body& body) {
  if (n >= 4) return body(std::integral_constant<int, 4>{});
  if (n == 3) return body(std::integral_constant<int, 3>{});
  if (n == 2) return body(std::integral_constant<int, 2>{});
  body(std::integral_constant<int, 1>{});
}

}  // namespace mor::MOR_CPU_ISA
