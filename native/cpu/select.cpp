// select on the CPU: the k-th largest score of a sequence by quickselect, then one pass in row order.
#include "ops/checks/select.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// NaN is the smallest score.
float ranked(float score) {
  return score == score ? score : -std::numeric_limits<float>::infinity();
}

/// Marks the k rows of [first, last) with the largest scores, of equal ones the earlier. sorted: scratch for last -
/// first scores.
void select_sequence(const float* scores, int32_t first, int32_t last, int32_t k, float* sorted, int32_t* index,
                     uint8_t* selected) {
  const int32_t rows = last - first;
  for (int32_t i = 0; i < rows; ++i) sorted[i] = ranked(scores[first + i]);
  std::nth_element(sorted, sorted + k - 1, sorted + rows, std::greater<>());
  const float least = sorted[k - 1];
  auto ties = static_cast<int32_t>(
      std::count(sorted, sorted + k, least));  // how many of the rows with the k-th largest score are taken
  int32_t count = 0;
  for (int32_t i = first; i < last; ++i) {
    const float score = ranked(scores[i]);
    const bool tie = score == least && ties > 0;
    ties -= tie ? 1 : 0;
    selected[i] = score > least || tie ? 1 : 0;
    if (selected[i] != 0) index[count++] = i;
  }
}

/// Writes without a branch on `chosen`: index[count] is written for every row, and count rises only if the row is
/// chosen. count never exceeds the row's own number, so index is large enough.
template <class Chosen>
SelectedRows write_selection(const int32_t* parent_start, int32_t sequences, const Chosen& chosen, int32_t* index,
                             int32_t* start, uint8_t* selected) {
  int32_t count = 0, max_rows = 0;
  start[0] = 0;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t i = parent_start[s]; i < parent_start[s + 1]; ++i) {
      selected[i] = chosen(i) ? 1 : 0;
      index[count] = i;
      count += selected[i];
    }
    start[s + 1] = count;
    max_rows = std::max(max_rows, count - start[s]);
  }
  return {count, max_rows};
}

}  // namespace

void CpuOps::select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, int32_t k,
                         int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  check_select_topk(parent_start, sequences, k);
  for (int32_t s = 0; s <= sequences; ++s) start[s] = s * k;
  const ArenaScope scope(scratch_);
  float* sorted = scratch_.vector(DType::float32, scores.count(), "sorted scores").as<float>();
  const float* scores_data = scores.as<float>();
  const int64_t rows_per_sequence = scores.count() / std::max(sequences, 1);
  parallel_for(sequences, rows_per_sequence * 8, [&](int64_t s) {
    select_sequence(scores_data, parent_start[s], parent_start[s + 1], k, sorted + parent_start[s], index + start[s],
                    selected);
  });
}

SelectedRows CpuOps::select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences,
                                      double threshold, int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  const float* s = scores.as<float>();
  return write_selection(
      parent_start, sequences, [&](int32_t i) { return double{s[i]} >= threshold; }, index, start, selected);
}

SelectedRows CpuOps::select_between(const int32_t* values, int32_t, const int32_t* parent_start, int32_t sequences,
                                    int32_t low, int32_t high, int32_t* index, int32_t* start, uint8_t* selected) {
  return write_selection(
      parent_start, sequences, [&](int32_t i) { return values[i] >= low && values[i] <= high; }, index, start,
      selected);
}

void CpuOps::gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) {
  parallel_for(n, 1, [&](int64_t i) { to[i] = from[index[i]]; });
}

void CpuOps::visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) {
  parallel_for(sequences, n / std::max(sequences, 1), [&](int64_t s) {
    for (int32_t i = start[s]; i < std::min(n, start[s + 1]); ++i) visible[i] = i - start[s] + 1;
  });
}

void CpuOps::equal_rows(int32_t sequences, int32_t length, int32_t* start, int32_t* position, int32_t* visible) {
  for (int32_t s = 0; s <= sequences; ++s) start[s] = s * length;
  parallel_for(sequences, length, [&](int64_t s) {
    for (int32_t t = 0; t < length; ++t) {
      position[s * length + t] = t;
      visible[s * length + t] = t + 1;
    }
  });
}

void CpuOps::sum_integers(const int32_t* values, int32_t n, int64_t* sum) {
  *sum = std::accumulate(values, values + n, int64_t{0});
}

}  // namespace mor::MOR_CPU_ISA
