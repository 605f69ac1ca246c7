// Chunks of rows whose logits over the whole vocabulary are in memory at a time: of cross_entropy and of distillation.
#pragma once

#include <algorithm>

#include "core/tensor.h"

namespace mor::cuda {

/// How many rows a chunk has: few enough for 256 MiB of logits, and whole tiles of the products, which more than 2048
/// rows would not make faster.
inline int64_t logit_rows(int64_t rows, int64_t vocabulary) {
  constexpr int64_t kMostLogits = int64_t{1} << 26, kMostRows = 2048, kTileRows = 128;
  const int64_t most = std::clamp<int64_t>(kMostLogits / vocabulary, 1, kMostRows);
  return std::max<int64_t>(1, std::min(rows, most < kTileRows ? most : most / kTileRows * kTileRows));
}

/// The gradient of logits in their memory: each row begins where its logits begin.
inline Tensor logit_gradient(const Tensor& logits, DType compute) {
  Tensor gradient = make_tensor(logits.data, compute, logits.rows(), logits.columns(), "d_logits");
  gradient.row_stride = logits.columns() * static_cast<int64_t>(sizeof(float) / dtype_size(compute));
  return gradient;
}

}  // namespace mor::cuda
