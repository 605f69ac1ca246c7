// router_scores on the CPU: one pass over the rows for all outputs, while the few weights stay in L1.
#include "ops/checks/router_scores.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/simd.h"

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
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) {
    store(d_weight + j, load(d_weight + j) + d_score * load(x + j));
    if (d_x != nullptr) store(d_x + j, load(d_x + j) + d_score * load(weight + j));
  }
  if (j < d) {
    const int64_t n = d - j;
    store_first(d_weight + j, load_first(d_weight + j, n) + d_score * load_first(x + j, n), n);
    if (d_x != nullptr) store_first(d_x + j, load_first(d_x + j, n) + d_score * load_first(weight + j, n), n);
  }
}

}  // namespace

void CpuOps::router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight, const Tensor& scores) {
  check_router_scores_forward(x, source, weight, scores);
  const int64_t d = x.columns(), outputs = weight.rows();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const T *x_data = x.as<T>(), *w = weight.as<T>();
    float* out = scores.as<float>();
    parallel(scores.rows(), outputs * (d / 16 + 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = x_data + (source == nullptr ? i : source[i]) * x.row_stride;
        for (int64_t o = 0; o < outputs; ++o) out[i * scores.row_stride + o] = dot(row, w + o * weight.row_stride, d);
      }
    });
  });
}

void CpuOps::router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                    const Tensor& weight, const Tensor& d_x, const Tensor& d_weight) {
  check_router_scores_backward(d_scores, x, source, weight, d_x, d_weight);
  const int64_t rows = d_scores.rows(), d = x.columns(), outputs = weight.rows();
  const int64_t stretches = (rows + kRowsPerPartial - 1) / kRowsPerPartial;
  const ArenaScope scope(scratch_);
  float* partial = scratch_.tensor(DType::float32, stretches, outputs * d, "partial d_weight").as<float>();
  const float* ds = d_scores.as<float>();
  float* dw = d_weight.as<float>();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const T *x_data = x.as<T>(), *w = weight.as<T>();
    T* dx = d_x ? d_x.as<T>() : nullptr;
    parallel(stretches, kRowsPerPartial * outputs * (d / 8 + 1), [&](int64_t begin, int64_t end) {
      for (int64_t stretch = begin; stretch < end; ++stretch) {
        float* sums = partial + stretch * outputs * d;
        std::memset(sums, 0, static_cast<size_t>(outputs * d) * sizeof(float));
        const int64_t last = std::min(rows, (stretch + 1) * kRowsPerPartial);
        for (int64_t i = stretch * kRowsPerPartial; i < last; ++i) {
          const int64_t from = source == nullptr ? i : source[i];
          T* dx_row = dx == nullptr ? nullptr : dx + from * d_x.row_stride;
          for (int64_t o = 0; o < outputs; ++o)
            backward_row(ds[i * d_scores.row_stride + o], x_data + from * x.row_stride, w + o * weight.row_stride, d,
                         dx_row, sums + o * d);
        }
      }
    });
  });
  parallel(outputs, stretches * (d / 8 + 1), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t stretch = 0; stretch < stretches; ++stretch)
        for (int64_t j = 0; j < d; ++j) dw[o * d_weight.row_stride + j] += partial[(stretch * outputs + o) * d + j];
  });
}

}  // namespace mor::MOR_CPU_ISA
