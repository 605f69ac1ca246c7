// select: specification of select_topk, select_threshold, select_between, gather_indices, visible_causal, equal_rows
// and sum_integers.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ops/checks/select.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// Writes index, start and selected for the rows i for which chosen(i) is true; returns how many there are.
template <class Chosen>
SelectedRows write_selection(const int32_t* parent_start, int32_t sequences, const Chosen& chosen, int32_t* index,
                             int32_t* start, uint8_t* selected) {
  int32_t count = 0, max_rows = 0;
  start[0] = 0;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t i = parent_start[s]; i < parent_start[s + 1]; ++i) {
      selected[i] = chosen(i) ? 1 : 0;
      if (selected[i] != 0) index[count++] = i;
    }
    start[s + 1] = count;
    max_rows = std::max(max_rows, count - start[s]);
  }
  return {count, max_rows};
}

/// A NaN score counts as the smallest.
template <class T>
void RefOps<T>::select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, int32_t k,
                            int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  check_select_topk(parent_start, sequences, k);
  const auto score = [&](int32_t i) {
    const double value = real(View<T>(scores)(0, i));
    return std::isnan(value) ? -std::numeric_limits<double>::infinity() : value;
  };
  std::vector<bool> taken(static_cast<size_t>(scores.count()));
  for (int32_t s = 0; s < sequences; ++s) {
    std::vector<int32_t> order;
    for (int32_t i = parent_start[s]; i < parent_start[s + 1]; ++i) order.push_back(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
    for (int32_t j = 0; j < k; ++j) taken[static_cast<size_t>(order[static_cast<size_t>(j)])] = true;
  }
  write_selection(
      parent_start, sequences, [&](int32_t i) { return taken[static_cast<size_t>(i)]; }, index, start, selected);
}

template <class T>
SelectedRows RefOps<T>::select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences,
                                         double threshold, int32_t* index, int32_t* start, uint8_t* selected) {
  check_select(scores, sequences);
  return write_selection(
      parent_start, sequences, [&](int32_t i) { return real(View<T>(scores)(0, i)) >= threshold; }, index, start,
      selected);
}

template <class T>
SelectedRows RefOps<T>::select_between(const int32_t* values, int32_t /*rows*/, const int32_t* parent_start,
                                       int32_t sequences, int32_t low, int32_t high, int32_t* index, int32_t* start,
                                       uint8_t* selected) {
  return write_selection(
      parent_start, sequences, [&](int32_t i) { return values[i] >= low && values[i] <= high; }, index, start,
      selected);
}

template <class T>
void RefOps<T>::gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) {
  for (int32_t i = 0; i < n; ++i) to[i] = from[index[i]];
}

template <class T>
void RefOps<T>::visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) {
  for (int32_t s = 0; s < sequences; ++s)
    for (int32_t i = start[s]; i < start[s + 1] && i < n; ++i) visible[i] = i - start[s] + 1;
}

template <class T>
void RefOps<T>::equal_rows(int32_t sequences, int32_t length, int32_t* start, int32_t* position, int32_t* visible) {
  start[0] = 0;
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t t = 0; t < length; ++t) {
      position[s * length + t] = t;
      visible[s * length + t] = t + 1;
    }
    start[s + 1] = (s + 1) * length;
  }
}

template <class T>
void RefOps<T>::sum_integers(const int32_t* values, int32_t n, int64_t* sum) {
  sum[0] = 0;
  for (int32_t i = 0; i < n; ++i) sum[0] += values[i];
}

}  // namespace mor::ref
