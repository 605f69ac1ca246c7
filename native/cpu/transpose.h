// Transposes in registers. They are written with shuffles of vectors because GCC 12 warns of uninitialised values
// inside its own intrinsics for the same instructions.
#pragma once

#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

#if defined(__aarch64__)
/// Element j of v[i] becomes element i of v[j].
inline void transpose(Vec (&v)[4]) {
  Vec t[4];
  for (int i = 0; i < 4; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 4, 2, 6);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 1, 5, 3, 7);
  }
  for (int j = 0; j < 2; ++j) {
    v[j] = __builtin_shufflevector(t[j], t[2 + j], 0, 1, 4, 5);
    v[2 + j] = __builtin_shufflevector(t[j], t[2 + j], 2, 3, 6, 7);
  }
}
#else
typedef float Vec8 __attribute__((vector_size(32)));

/// Element j of v[i] becomes element i of v[j].
inline void transpose(Vec8 (&v)[8]) {
  Vec8 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      u[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 0, 1, 8, 9, 4, 5, 12, 13);
      u[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + 2 + j], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int j = 0; j < 4; ++j) {
    v[j] = __builtin_shufflevector(u[j], u[4 + j], 0, 1, 2, 3, 8, 9, 10, 11);
    v[4 + j] = __builtin_shufflevector(u[j], u[4 + j], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

#endif

#if defined(__AVX512F__)
inline void transpose(Vec (&v)[16]) {
  Vec t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = __builtin_shufflevector(v[i], v[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    t[i + 1] = __builtin_shufflevector(v[i], v[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      const Vec a = t[i + j], b = t[i + 2 + j];
      v[i + 2 * j] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      v[i + 2 * j + 1] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  const auto even_quarters = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  };
  const auto odd_quarters = [](Vec a, Vec b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      t[i + j] = even_quarters(v[i + j], v[i + 4 + j]);
      t[i + 4 + j] = odd_quarters(v[i + j], v[i + 4 + j]);
    }
  for (int j = 0; j < 8; ++j) {
    v[j] = even_quarters(t[j], t[8 + j]);
    v[8 + j] = odd_quarters(t[j], t[8 + j]);
  }
}
#endif

}  // namespace mor::MOR_CPU_ISA
