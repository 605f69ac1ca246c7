// RMSNorm of one row, for rmsnorm and for the heads of qkv.
#pragma once

#include <cmath>

#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

/// 1 / sqrt(mean(x^2) + epsilon) of d elements.
template <class T>
float reciprocal_rms(const T* x, int64_t d, double epsilon) {
  Vec squares = {};
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) squares += load(x + j) * load(x + j);
  if (j < d) {
    const Vec tail = load_first(x + j, d - j);
    squares += tail * tail;
  }
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(sum(squares)) / static_cast<double>(d) + epsilon));
}

/// y = x rstd weight, and packed = x unless `packed` is null. y may be x.
template <class T>
void normalize_row(const T* x, const T* weight, float rstd, int64_t d, T* packed, T* y) {
  const auto piece = [&](Vec value, Vec w, auto&& write) {
    if (packed != nullptr) write(packed, value);
    write(y, value * rstd * w);
  };
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes)
    piece(load(x + j), load(weight + j), [&](T* to, Vec value) { store(to + j, value); });
  if (j < d)
    piece(load_first(x + j, d - j), load_first(weight + j, d - j),
          [&](T* to, Vec value) { store_first(to + j, value, d - j); });
}

}  // namespace mor::MOR_CPU_ISA
