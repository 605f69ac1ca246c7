// select on the GPU: one block a sequence (topk) or for all rows (threshold, between), without a sort. Must not know of
// other ops.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/select.cuh"
#include "ops/select.h"

namespace mor::cuda {

namespace {

constexpr int kSequencesPerLaunch = 256;

/// What the host knows of some sequences; travels with the launch, so that nothing waits for a copy.
struct TopkSequences {
  int32_t first;
  int32_t k[kSequencesPerLaunch];
  int32_t start[kSequencesPerLaunch + 1];  ///< of the selection
};

__global__ void __launch_bounds__(kMostSelectThreads)
    select_topk_kernel(const float* scores /*[P]*/, const int32_t* parent_start /*[sequences + 1]*/,
                       const TopkSequences sequences, int32_t* index, int32_t* start, uint8_t* selected, Fault* fault) {
  const int32_t s = sequences.first + static_cast<int32_t>(blockIdx.x);
  const int32_t first = parent_start[s], rows = parent_start[s + 1] - first, k = sequences.k[blockIdx.x];
  if (threadIdx.x == 0) start[s + 1] = sequences.start[blockIdx.x + 1];
  if (k < 1 || k > rows) {
    if (threadIdx.x == 0) report(fault, FaultKind::k_outside_sequence, s, k, rows);
    return;
  }
  const auto key = [&](int64_t i) { return ordered_key(scores[first + i]); };
  const Cut cut = find_cut(
      rows, key, [](int64_t) { return Weight{1}; }, static_cast<Weight>(k));
  const auto tie = [&](int64_t i) { return key(i) == cut.key ? Weight{1} : Weight{0}; };
  const int64_t last_tie = find_in_order(rows, tie, static_cast<Weight>(k) - cut.above);
  int32_t* to = index + sequences.start[blockIdx.x];
  const auto chosen = [&](int64_t i) {
    const bool yes = key(i) > cut.key || (key(i) == cut.key && i <= last_tie);
    selected[first + i] = yes ? 1 : 0;
    return yes;
  };
  compact_in_order(rows, chosen, [&](int64_t i, int64_t at) { to[at] = first + static_cast<int32_t>(i); });
}

struct AtLeast {
  const float* scores;
  double threshold;
  __device__ bool operator()(int64_t i) const { return static_cast<double>(scores[i]) >= threshold; }
};
struct Between {
  const int32_t* values;
  int32_t low, high;
  __device__ bool operator()(int64_t i) const { return values[i] >= low && values[i] <= high; }
};

/// One block.
template <class Condition>
__global__ void __launch_bounds__(kMostSelectThreads)
    select_kernel(const Condition condition, const int32_t* parent_start /*[sequences + 1]*/, int32_t sequences,
                  int32_t* index, int32_t* start, uint8_t* selected) {
  const auto chosen = [&](int64_t i) {
    const bool yes = condition(i);
    selected[i] = yes ? 1 : 0;
    return yes;
  };
  const int64_t count = compact_in_order(parent_start[sequences], chosen,
                                         [&](int64_t i, int64_t at) { index[at] = static_cast<int32_t>(i); });
  __syncthreads();  // index is whole
  // A sequence's selection starts behind all selected rows that lie before its first one.
  for (int32_t s = static_cast<int32_t>(threadIdx.x); s <= sequences; s += static_cast<int32_t>(blockDim.x)) {
    int32_t low = 0, high = static_cast<int32_t>(count);
    while (low < high) {
      const int32_t middle = low + (high - low) / 2;
      if (index[middle] < parent_start[s])
        low = middle + 1;
      else
        high = middle;
    }
    start[s] = low;
  }
}

struct GatherIndices {
  const int32_t* from;
  const int32_t* index;
  int32_t* to;
  __device__ void operator()(int64_t, int64_t i) const { to[i] = from[index[i]]; }
};

struct VisibleCausal {
  const int32_t* start;  ///< [sequences + 1]
  int32_t sequences;
  int32_t* visible;
  __device__ void operator()(int64_t, int64_t i) const {
    if (i < start[0] || i >= start[sequences]) return;
    int32_t low = 0, high = sequences;  // the last sequence that starts at or before i
    while (high - low > 1) {
      const int32_t middle = low + (high - low) / 2;
      (start[middle] <= i ? low : high) = middle;
    }
    visible[i] = static_cast<int32_t>(i) - start[low] + 1;
  }
};

}  // namespace

void CudaOps::select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, const int32_t* k,
                          int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  zero(start, sizeof(int32_t));
  const unsigned threads = sequences == 0 ? 0 : select_threads(scores.count() / sequences);
  TopkSequences batch = {};
  for (int32_t first = 0; first < sequences; first += kSequencesPerLaunch) {
    const int32_t n = std::min(sequences - first, kSequencesPerLaunch);
    batch.first = first;
    for (int32_t i = 0; i < n; ++i) {
      batch.k[i] = k[first + i];
      batch.start[i + 1] = batch.start[i] + k[first + i];
    }
    launch(select_topk_kernel, dim3(static_cast<unsigned>(n)), dim3(threads), 0, stream_, scores.as<float>(),
           parent_start, batch, index, start, selected, fault_.device());
    batch.start[0] = batch.start[n];
  }
}

int32_t CudaOps::select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences,
                                  double threshold, int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  launch(select_kernel<AtLeast>, dim3(1), dim3(select_threads(scores.count())), 0, stream_,
         AtLeast{scores.as<float>(), threshold}, parent_start, sequences, index, start, selected);
  return read_count(start + sequences);
}

int32_t CudaOps::select_between(const int32_t* values, const int32_t* parent_start, int32_t sequences, int32_t low,
                                int32_t high, int32_t* index, int32_t* start, uint8_t* selected) {
  launch(select_kernel<Between>, dim3(1), dim3(kMostSelectThreads), 0, stream_, Between{values, low, high},
         parent_start, sequences, index, start, selected);
  return read_count(start + sequences);
}

void CudaOps::gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) {
  for_each<1>(stream_, 1, n, GatherIndices{from, index, to});
}

void CudaOps::visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) {
  if (sequences > 0) for_each<1>(stream_, 1, n, VisibleCausal{start, sequences, visible});
}

}  // namespace mor::cuda
