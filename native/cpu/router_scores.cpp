// router_scores on the CPU: one pass over the rows for all outputs, while the few weights stay in L1.
#include "ops/checks/router_scores.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kRowsPerPartial = 64;  // rows of a stretch; the stretches' sums of d_weight are added in order

template <class T>
float dot(const T* x, const T* weight, int64_t d) {
  Vec even = {}, odd = {};  // two sums, so that an addition need not wait for the one before
  int64_t j = 0;
  for (; j + 2 * kLanes <= d; j += 2 * kLanes) {
    even += load(x + j) * load(weight + j);
    odd += load(x + j + kLanes) * load(weight + j + kLanes);
  }
  for (; j < d; j += kLanes) {
    const int64_t n = std::min(kLanes, d - j);
    even += load_first(x + j, n) * load_first(weight + j, n);
  }
  return sum(even + odd);
}

/// d_x += d_score * weight, d_weight += d_score * x; d_x may be null, d_weight is a float scratch row.
template <class T>
void backward_row(float d_score, const T* x, const T* weight, int64_t d, T* d_x, float* d_weight) {
  for_lanes(d, [&](int64_t j, auto part) {
    part.store(d_weight + j, part.load(d_weight + j) + d_score * part.load(x + j));
    if (d_x != nullptr) part.store(d_x + j, part.load(d_x + j) + d_score * part.load(weight + j));
  });
}

}  // namespace

void CpuOps::router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight, const Tensor& scores) {
  check_router_scores_forward(x, source, weight, scores);
  const int64_t d = x.columns(), outputs = weight.rows();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(scores.rows(), outputs * (d / 16 + 1), [&](int64_t i) {
      const T* row = row_of<T>(x, source, i);
      float* out = row_of<float>(scores, i);
      for (int64_t o = 0; o < outputs; ++o) out[o] = dot(row, row_of<T>(weight, o), d);
    });
  });
}

void CpuOps::router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                    const Tensor& weight, const Tensor& d_x, const Tensor& d_weight) {
  check_router_scores_backward(d_scores, x, source, weight, d_x, d_weight);
  const int64_t rows = d_scores.rows(), d = x.columns(), outputs = weight.rows();
  const int64_t stretches = stretches_of(rows, kRowsPerPartial);
  const ArenaScope scope(scratch_);
  float* partial = scratch_.tensor(DType::float32, stretches, outputs * d, "partial d_weight").as<float>();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const int64_t cost = kRowsPerPartial * outputs * (d / 8 + 1);
    parallel_stretches(rows, kRowsPerPartial, cost, [&](int64_t stretch, int64_t begin, int64_t end) {
      float* sums = partial + stretch * outputs * d;
      std::memset(sums, 0, static_cast<size_t>(outputs * d) * sizeof(float));
      for (int64_t i = begin; i < end; ++i) {
        const T* row = row_of<T>(x, source, i);
        T* d_row = d_x ? row_of<T>(d_x, source, i) : nullptr;
        for (int64_t o = 0; o < outputs; ++o)
          backward_row(row_of<float>(d_scores, i)[o], row, row_of<T>(weight, o), d, d_row, sums + o * d);
      }
    });
  });
  parallel_for(outputs, stretches * (d / 8 + 1), [&](int64_t o) {
    float* to = row_of<float>(d_weight, o);
    for (int64_t stretch = 0; stretch < stretches; ++stretch)
      for (int64_t j = 0; j < d; ++j) to[j] += partial[(stretch * outputs + o) * d + j];
  });
}

}  // namespace mor::MOR_CPU_ISA
