// select on the GPU, without a sort: one block for each sequence (topk), or one for all rows (threshold, between).
#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/search.cuh"
#include "cuda/tile/select.cuh"
#include "ops/checks/select.h"

namespace mor::cuda {

namespace {

/// One block for each sequence.
__global__ void __launch_bounds__(kMostSelectThreads)
    select_topk_kernel(const float* scores /*[P]*/, const int32_t* parent_start /*[sequences + 1]*/, int32_t k,
                       int32_t* index, int32_t* start, uint8_t* selected, Fault* fault) {
  wait_for_earlier_kernels();
  const auto s = static_cast<int32_t>(blockIdx.x);
  const int32_t first = parent_start[s], rows = parent_start[s + 1] - first;
  if (threadIdx.x == 0) {
    if (s == 0) start[0] = 0;
    start[s + 1] = (s + 1) * k;
  }
  if (k < 1 || k > rows) {
    if (threadIdx.x == 0) report(fault, FaultKind::k_outside_sequence, s, k, rows);
    return;
  }
  const auto key = [&](int64_t i) { return ordered_key(scores[first + i]); };
  const Cut cut = find_cut(
      rows, key, [](int64_t) { return Weight{1}; }, static_cast<Weight>(k));
  const auto tie = [&](int64_t i) { return key(i) == cut.key ? Weight{1} : Weight{0}; };
  const int64_t last_tie = find_in_order(rows, tie, static_cast<Weight>(k) - cut.above);
  int32_t* to = index + static_cast<int64_t>(s) * k;
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

/// Runs as one block.
template <class Condition>
__global__ void __launch_bounds__(kMostSelectThreads)
    select_kernel(const Condition condition, const int32_t* parent_start /*[sequences + 1]*/, int32_t sequences,
                  int32_t* index, int32_t* start, uint8_t* selected) {
  wait_for_earlier_kernels();
  const auto chosen = [&](int64_t i) {
    const bool yes = condition(i);
    selected[i] = yes ? 1 : 0;
    return yes;
  };
  const int64_t count = compact_in_order(parent_start[sequences], chosen,
                                         [&](int64_t i, int64_t at) { index[at] = static_cast<int32_t>(i); });
  __syncthreads();  // all threads see the whole index
  // A sequence's selection starts behind all selected rows of earlier sequences.
  for (int32_t s = static_cast<int32_t>(threadIdx.x); s <= sequences; s += static_cast<int32_t>(blockDim.x))
    start[s] = first_where(0, static_cast<int32_t>(count), [&](int32_t i) { return index[i] >= parent_start[s]; });
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
    // The last sequence that starts at or before i.
    const int32_t s = first_where(1, sequences, [&](int32_t other) { return start[other] > i; }) - 1;
    visible[i] = static_cast<int32_t>(i) - start[s] + 1;
  }
};

struct EqualRows {
  int32_t sequences, length;
  int32_t *start, *position, *visible;
  /// i runs up to the number of rows, because start has one more entry: the end of the last sequence.
  __device__ void operator()(int64_t, int64_t i) const {
    const int64_t s = i / length;
    const auto t = static_cast<int32_t>(i - s * length);
    if (t == 0) start[s] = static_cast<int32_t>(i);
    if (s == sequences) return;
    position[i] = t;
    visible[i] = t + 1;
  }
};

/// Runs as one block.
__global__ void __launch_bounds__(kMostSelectThreads)
    sum_integers_kernel(const int32_t* values /*[n]*/, int32_t n, int64_t* sum) {
  wait_for_earlier_kernels();
  int64_t own = 0;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) own += values[i];
  own = block_sum(own);
  if (threadIdx.x == 0) *sum = own;
}

}  // namespace

void CudaOps::select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, int32_t k,
                          int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  if (sequences == 0) return zero(start, sizeof(int32_t));
  launch(select_topk_kernel, dim3(static_cast<unsigned>(sequences)), dim3(select_threads(scores.count() / sequences)),
         0, stream_, scores.as<float>(), parent_start, k, index, start, selected, fault_.device());
}

SelectedRows CudaOps::select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences,
                                       double threshold, int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  launch(select_kernel<AtLeast>, dim3(1), dim3(select_threads(scores.count())), 0, stream_,
         AtLeast{scores.as<float>(), threshold}, parent_start, sequences, index, start, selected);
  return read_selection(start, sequences);
}

SelectedRows CudaOps::select_between(const int32_t* values, int32_t rows, const int32_t* parent_start,
                                     int32_t sequences, int32_t low, int32_t high, int32_t* index, int32_t* start,
                                     uint8_t* selected) {
  launch(select_kernel<Between>, dim3(1), dim3(select_threads(rows)), 0, stream_, Between{values, low, high},
         parent_start, sequences, index, start, selected);
  return read_selection(start, sequences);
}

void CudaOps::gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) {
  for_each<1>(stream_, 1, n, GatherIndices{from, index, to});
}

void CudaOps::visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) {
  if (sequences > 0) for_each<1>(stream_, 1, n, VisibleCausal{start, sequences, visible});
}

void CudaOps::equal_rows(int32_t sequences, int32_t length, int32_t* start, int32_t* position, int32_t* visible) {
  if (length == 0) return zero(start, (static_cast<size_t>(sequences) + 1) * sizeof(int32_t));
  for_each<1>(stream_, 1, int64_t{sequences} * length + 1, EqualRows{sequences, length, start, position, visible});
}

void CudaOps::sum_integers(const int32_t* values, int32_t n, int64_t* sum) {
  launch(sum_integers_kernel, dim3(1), dim3(select_threads(n)), 0, stream_, values, n, sum);
}

}  // namespace mor::cuda
