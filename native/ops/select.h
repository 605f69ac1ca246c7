// select: what the selection ops accept, for every device. Must not know how rows are selected.
#pragma once

#include "ops/shapes.h"

namespace mor {

inline void check_select(const Tensor& scores, int32_t sequences) {
  check_vector("select", scores, scores.count());
  MOR_CHECK(sequences >= 0, INVALID_ARGUMENT, "select: ", sequences, " sequences");
}

/// For devices whose memory the host can read.
inline void check_select_topk(const int32_t* parent_start, int32_t sequences, const int32_t* k) {
  for (int32_t s = 0; s < sequences; ++s) {
    const int32_t rows = parent_start[s + 1] - parent_start[s];
    MOR_CHECK(k[s] >= 1 && k[s] <= rows, INVALID_ARGUMENT, "select_topk: k of sequence ", s, " is ", k[s],
              ", but it must be from 1 to its ", rows, " rows");
  }
}

}  // namespace mor
