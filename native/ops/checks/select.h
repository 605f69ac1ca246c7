// select: what the selection ops accept, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_select(const Tensor& scores, int32_t sequences) {
  check_vector("select", scores, scores.count());
  MOR_CHECK(sequences >= 0, INVALID_ARGUMENT, "select: ", sequences, " sequences");
}

inline void check_k(int32_t sequence, int32_t k, int32_t rows) {
  MOR_CHECK(k >= 1 && k <= rows, INVALID_ARGUMENT, "select_topk: k is ", k, ", but it must be from 1 to the ", rows,
            " rows of sequence ", sequence);
}

/// For devices whose memory the host can read.
inline void check_select_topk(const int32_t* parent_start, int32_t sequences, int32_t k) {
  for (int32_t s = 0; s < sequences; ++s) check_k(s, k, parent_start[s + 1] - parent_start[s]);
}

}  // namespace mor
