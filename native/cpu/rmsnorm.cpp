// rmsnorm on the CPU: one pass over each row for the norm, and one, which reads from L1, for the output.
#include "ops/checks/rmsnorm.h"

#include <algorithm>

#include "cpu/cpu_ops.h"
#include "cpu/rmsnorm.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kRowsPerPartial = 32;  // rows of a stretch; the stretches' sums of d_weight are added in order

/// d_weight is a row of scratch memory here, so that the sums of stretches can be added in a fixed order afterwards.
template <class T>
void backward_row(const T* d_y, const T* x, const T* weight, float rstd, int64_t d, T* d_x, float* d_weight) {
  Vec dot = {};
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) dot += load(d_y + j) * load(weight + j) * load(x + j);
  if (j < d) dot += load_first(d_y + j, d - j) * load_first(weight + j, d - j) * load_first(x + j, d - j);
  const float mean = sum(dot) * rstd / static_cast<float>(d);
  for (j = 0; j < d; j += kLanes) {
    const int64_t n = d - j < kLanes ? d - j : kLanes;
    const bool whole = n == kLanes;
    const Vec dy = whole ? load(d_y + j) : load_first(d_y + j, n);
    const Vec normal = (whole ? load(x + j) : load_first(x + j, n)) * rstd;
    const Vec w = whole ? load(weight + j) : load_first(weight + j, n);
    const Vec dx = (whole ? load(d_x + j) : load_first(d_x + j, n)) + rstd * (dy * w - normal * mean);
    const Vec dw = (whole ? load(d_weight + j) : load_first(d_weight + j, n)) + dy * normal;
    if (whole) {
      store(d_x + j, dx);
      store(d_weight + j, dw);
    } else {
      store_first(d_x + j, dx, n);
      store_first(d_weight + j, dw, n);
    }
  }
}

}  // namespace

void CpuOps::rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                             const Tensor& packed, const Tensor& y, const Tensor& rstd) {
  check_rmsnorm_forward(x, source, weight, packed, y, rstd);
  const int64_t d = y.columns();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(y.rows(), d / 4 + 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* row = x.as<T>() + (source == nullptr ? i : source[i]) * x.row_stride;
        const float r = reciprocal_rms(row, d, epsilon);
        normalize_row(row, weight.as<T>(), r, d, packed ? packed.as<T>() + i * packed.row_stride : nullptr,
                      y.as<T>() + i * y.row_stride);
        if (rstd) rstd.as<float>()[i] = r;
      }
    });
  });
}

void CpuOps::rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                              const Tensor& d_packed, const Tensor& d_weight) {
  check_rmsnorm_backward(d_y, packed, weight, rstd, d_packed, d_weight);
  const int64_t d = d_y.columns(), rows = d_y.rows();
  const int64_t stretches = (rows + kRowsPerPartial - 1) / kRowsPerPartial;
  const ArenaScope scope(scratch_);
  const Tensor partial = scratch_.tensor(DType::float32, stretches, d, "partial d_weight");
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(stretches, kRowsPerPartial * (d / 2 + 1), [&](int64_t begin, int64_t end) {
      for (int64_t stretch = begin; stretch < end; ++stretch) {
        float* sums = partial.as<float>() + stretch * d;
        std::memset(sums, 0, static_cast<size_t>(d) * sizeof(float));
        const int64_t last = std::min(rows, (stretch + 1) * kRowsPerPartial);
        for (int64_t i = stretch * kRowsPerPartial; i < last; ++i)
          backward_row(d_y.as<T>() + i * d_y.row_stride, packed.as<T>() + i * packed.row_stride, weight.as<T>(),
                       rstd.as<float>()[i], d, d_packed.as<T>() + i * d_packed.row_stride, sums);
      }
    });
  });
  float* total = d_weight.as<float>();
  for (int64_t stretch = 0; stretch < stretches; ++stretch)
    for (int64_t j = 0; j < d; ++j) total[j] += partial.as<float>()[stretch * d + j];
}

}  // namespace mor::MOR_CPU_ISA
