// global_norm, reject_non_finite and adamw on the CPU: one pass each over the flat buffers, bound by memory.
#include "ops/checks/adamw.h"

#include <algorithm>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"
#include "ops/adamw_step.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kStretch = 16384;  // elements: whole cache lines, and few enough for even shares of the threads

/// The sum of the squares of n floats. It is computed in double, where 1e20 squared is finite and many small squares
/// lose no bits. Each lane has a sum of its own, so that the compiler can use vectors without changing the order.
double sum_of_squares(const float* x, int64_t n) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += double{x[i + lane]} * double{x[i + lane]};
  for (; i < n; ++i) lanes[0] += double{x[i]} * double{x[i]};
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

/// What the elements of one segment have in common; see ops/ref/adamw.h for the formulas.
struct Update {
  float gradient_scale;
  float beta1, rest1, beta2, rest2;  ///< rest = 1 - beta
  float keep;                        ///< 1 - lr weight_decay
  float rate;                        ///< lr / (1 - beta1^step)
  float correction2;                 ///< 1 / (1 - beta2^step)
  float epsilon;
};

/// Neighbouring elements of one segment.
template <class T>
struct Elements {
  float *master, *exp_avg, *exp_avg_sq;
  const float* gradient;
  T* weights;  ///< may be the masters themselves
};

template <class T>
void update(const Elements<T>& e, int64_t n, const Update& u) {
  for_lanes(n, [&](int64_t i, auto part) {
    const Vec g = part.load(e.gradient + i) * u.gradient_scale;
    const Vec m = u.beta1 * part.load(e.exp_avg + i) + u.rest1 * g;
    const Vec v = u.beta2 * part.load(e.exp_avg_sq + i) + u.rest2 * g * g;
    const Vec w = u.keep * part.load(e.master + i) - u.rate * m / (sqrt(v * u.correction2) + u.epsilon);
    part.store(e.exp_avg + i, m);
    part.store(e.exp_avg_sq + i, v);
    part.store(e.master + i, w);
    part.store(e.weights + i, w);
  });
}

}  // namespace

void CpuOps::global_norm(const Tensor& gradient, const Tensor& norm) {
  check_global_norm(gradient, norm);
  const int64_t n = gradient.count(), stretches = stretches_of(n, kStretch);
  const ArenaScope scope(scratch_);
  double* partial = scratch_.array<double>(stretches);
  const float* g = gradient.as<float>();
  parallel_stretches(n, kStretch, kStretch / 4, [&](int64_t stretch, int64_t begin, int64_t end) {
    partial[stretch] = sum_of_squares(g + begin, end - begin);
  });
  double sum = 0;
  for (int64_t stretch = 0; stretch < stretches; ++stretch) sum += partial[stretch];
  *norm.as<float>() = static_cast<float>(std::sqrt(sum));
}

void CpuOps::reject_non_finite(const Tensor& values, const Tensor& norm) {
  check_reject_non_finite(values, norm);
  const float* value = values.as<float>();
  const bool finite = std::all_of(value, value + values.count(), [](float x) { return std::isfinite(x); });
  if (!finite) *norm.as<float>() = std::numeric_limits<float>::quiet_NaN();
}

void CpuOps::adamw(const Tensor& master, void* weights, const Tensor& gradient, const Tensor& exp_avg,
                   const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments,
                   int32_t segment_count, const AdamWParams& params, const AdamWStep* step) {
  check_adamw(master, gradient, exp_avg, exp_avg_sq, norm);
  check_adamw_segments(segments, segment_count, master);
  const double all = *norm.as<float>();
  if (!std::isfinite(all)) return;
  float *masters = master.as<float>(), *exp_avgs = exp_avg.as<float>(), *exp_avg_sqs = exp_avg_sq.as<float>();
  const float* gradients = gradient.as<float>();
  parallel(stretches_of(master.count(), kStretch), kStretch / 2, [&](int64_t begin, int64_t end) {
    for (int32_t s = 0; s < segment_count; ++s) {
      const ParameterSegment& segment = segments[s];
      const int64_t first = std::max(begin * kStretch, segment.offset);
      const int64_t last = std::min(end * kStretch, segment.offset + segment.count);
      if (first >= last) continue;
      const double lr = step->learning_rate * segment.learning_rate_scale;
      const Update u{float(gradient_scale(params, all)),
                     float(params.beta1),
                     float(1 - params.beta1),
                     float(params.beta2),
                     float(1 - params.beta2),
                     float(1 - lr * segment.weight_decay),
                     float(lr * step->correction1),
                     float(step->correction2),
                     float(params.epsilon)};
      with_type(segment.storage, [&](auto type) {
        using T = decltype(type);
        T* own = reinterpret_cast<T*>(static_cast<char*>(weights) + segment.weight_offset) + (first - segment.offset);
        update<T>({masters + first, exp_avgs + first, exp_avg_sqs + first, gradients + first, own}, last - first, u);
      });
    }
  });
}

}  // namespace mor::MOR_CPU_ISA
