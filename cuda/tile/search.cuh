// Binary search in a thread.
#pragma once

#include <cuda_runtime.h>

namespace mor::cuda {

/// The first i in [begin, end) for which reached(i) holds, or `end`. Where it holds, it holds for all later ones.
template <class Index, class Reached>
__device__ __forceinline__ Index first_where(Index begin, Index end, const Reached& reached) {
  while (begin < end) {
    const Index middle = begin + (end - begin) / 2;
    if (reached(middle))
      end = middle;
    else
      begin = middle + 1;
  }
  return begin;
}

}  // namespace mor::cuda
