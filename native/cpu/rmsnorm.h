// RMSNorm of one row, for rmsnorm and for the heads of qkv.
#pragma once

#include <cmath>

#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

/// 1 / sqrt(mean(x^2) + epsilon) of d elements.
template <class T>
float reciprocal_rms(const T* x, int64_t d, double epsilon) {
  Vec squares = {};
  for_lanes(d, [&](int64_t j, auto part) {
    const Vec value = part.load(x + j);
    squares += value * value;
  });
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(sum(squares)) / static_cast<double>(d) + epsilon));
}

/// y = x rstd weight, and packed = x unless `packed` is null. y may be x.
template <class T>
void normalize_row(const T* x, const T* weight, float rstd, int64_t d, T* packed, T* y) {
  for_lanes(d, [&](int64_t j, auto part) {
    const Vec value = part.load(x + j);
    if (packed != nullptr) part.store(packed + j, value);
    part.store(y + j, value * rstd * part.load(weight + j));
  });
}

}  // namespace mor::MOR_CPU_ISA
