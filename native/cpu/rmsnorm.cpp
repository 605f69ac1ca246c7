// rmsnorm on the CPU: one pass over each row for the norm, and one, which reads from L1, for the output.
#include "ops/checks/rmsnorm.h"

#include "cpu/cpu_ops.h"
#include "cpu/rmsnorm.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kRowsPerPartial = 32;  // rows of a stretch; the stretches' sums of d_weight are added in order

/// d_weight is a row of scratch memory here, so that the sums of stretches can be added in a fixed order afterwards.
template <class T>
void backward_row(const T* d_y, const T* x, const T* weight, float rstd, int64_t d, T* d_x, float* d_weight) {
  Vec dot = {};
  for_lanes(d, [&](int64_t j, auto part) { dot += part.load(d_y + j) * part.load(weight + j) * part.load(x + j); });
  const float mean = sum(dot) * rstd / static_cast<float>(d);
  for_lanes(d, [&](int64_t j, auto part) {
    const Vec dy = part.load(d_y + j), normal = part.load(x + j) * rstd;
    part.store(d_x + j, part.load(d_x + j) + rstd * (dy * part.load(weight + j) - normal * mean));
    part.store(d_weight + j, part.load(d_weight + j) + dy * normal);
  });
}

}  // namespace

void CpuOps::rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                             const Tensor& packed, const Tensor& y, const Tensor& rstd) {
  check_rmsnorm_forward(x, source, weight, packed, y, rstd);
  const int64_t d = y.columns();
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(y.rows(), d / 4 + 1, [&](int64_t i) {
      const T* row = row_of<T>(x, source, i);
      const float r = reciprocal_rms(row, d, epsilon);
      normalize_row(row, weight.as<T>(), r, d, packed ? row_of<T>(packed, i) : nullptr, row_of<T>(y, i));
      if (rstd) rstd.as<float>()[i] = r;
    });
  });
}

void CpuOps::rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                              const Tensor& d_packed, const Tensor& d_weight) {
  check_rmsnorm_backward(d_y, packed, weight, rstd, d_packed, d_weight);
  const int64_t d = d_y.columns(), rows = d_y.rows(), stretches = stretches_of(rows, kRowsPerPartial);
  const ArenaScope scope(scratch_);
  const Tensor partial = scratch_.tensor(DType::float32, stretches, d, "partial d_weight");
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    const int64_t cost = kRowsPerPartial * (d / 2 + 1);
    parallel_stretches(rows, kRowsPerPartial, cost, [&](int64_t stretch, int64_t begin, int64_t end) {
      float* sums = row_of<float>(partial, stretch);
      std::memset(sums, 0, static_cast<size_t>(d) * sizeof(float));
      for (int64_t i = begin; i < end; ++i)
        backward_row(row_of<T>(d_y, i), row_of<T>(packed, i), weight.as<T>(), rstd.as<float>()[i], d,
                     row_of<T>(d_packed, i), sums);
    });
  });
  float* total = d_weight.as<float>();
  for (int64_t stretch = 0; stretch < stretches; ++stretch)
    for (int64_t j = 0; j < d; ++j) total[j] += partial.as<float>()[stretch * d + j];
}

}  // namespace mor::MOR_CPU_ISA
