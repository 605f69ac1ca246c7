// Chunks of rows whose logits over the whole vocabulary are in memory at a time: of cross_entropy and of distillation.
#pragma once

#include <algorithm>
#include <limits>

#include "core/arena.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

/// Rows of a chunk: few enough for 64 MiB of logits, as many as possible, since every chunk passes over all of the
/// weights' gradient, and at least 64 whatever the vocabulary.
inline int64_t logit_rows(int64_t rows, int64_t vocabulary) {
  constexpr int64_t kMostRows = 512, kLeastRows = 64, kMostLogits = int64_t{16} << 20;
  return std::min(rows, std::clamp(kMostLogits / vocabulary / kLeastRows * kLeastRows, kLeastRows, kMostRows));
}

/// Room for a chunk. Its rows are a multiple of 16 numbers apart but not of a page: rows of 2^n bytes would all use the
/// same cache sets.
inline Tensor logit_chunk(Arena& arena, int64_t rows, int64_t vocabulary, const char* name) {
  const int64_t stride = (vocabulary + kLanes - 1) / kLanes * kLanes + kLanes;
  return arena.tensor(DType::float32, rows, stride, name).column_range(0, vocabulary);
}

/// The gradient of logits in their memory: each row begins where its logits begin.
inline Tensor logit_gradient(const Tensor& logits, DType compute) {
  Tensor gradient = logits.named("logits' gradient");
  gradient.dtype = compute;
  gradient.row_stride = logits.row_stride * static_cast<int64_t>(sizeof(float) / dtype_size(compute));
  return gradient;
}

constexpr float kNoLogit = -std::numeric_limits<float>::infinity();

/// The logits from j on, one vector of them; `filler` behind the last one.
inline Vec logits_at(const float* logits, int64_t j, int64_t n, float filler) {
  if (j + kLanes <= n) return load(logits + j);
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, filler);
  std::copy(logits + j, logits + n, lanes);
  return load(lanes);
}

}  // namespace mor::MOR_CPU_ISA
