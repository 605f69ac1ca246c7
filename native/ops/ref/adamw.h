// global_norm, reject_non_finite and adamw: specification.
#pragma once

#include <limits>

#include "ops/adamw_step.h"
#include "ops/checks/adamw.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

template <class T>
void RefOps<T>::global_norm(const Tensor& gradient, const Tensor& norm) {
  check_global_norm(gradient, norm);
  const View<T> g(gradient), result(norm);
  T squares = 0;
  for (int64_t i = 0; i < gradient.count(); ++i) squares += g(0, i) * g(0, i);
  result(0) = std::sqrt(squares);
}

template <class T>
void RefOps<T>::reject_non_finite(const Tensor& values, const Tensor& norm) {
  check_reject_non_finite(values, norm);
  const View<T> value(values), result(norm);
  for (int64_t i = 0; i < values.count(); ++i)
    if (!std::isfinite(real(value(0, i)))) result(0) = T(std::numeric_limits<double>::quiet_NaN());
}

/// Loshchilov and Hutter 2019, algorithm 2, with lr = learning_rate * segment.learning_rate_scale and g the clipped
/// gradient:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
///   w = w (1 - lr weight_decay) - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon).
/// The weights become w, rounded to the segment's storage.
template <class T>
void RefOps<T>::adamw(const Tensor& master, void* weights, const Tensor& gradient, const Tensor& exp_avg,
                      const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments,
                      int32_t segment_count, const AdamWParams& params, const AdamWStep* step) {
  check_adamw(master, gradient, exp_avg, exp_avg_sq, norm);
  check_adamw_segments(segments, segment_count, master);
  const double all = static_cast<double>(real(View<T>(norm)(0)));
  if (!std::isfinite(all)) return;
  const T beta1(params.beta1), beta2(params.beta2);
  for (int32_t s = 0; s < segment_count; ++s) {
    const int64_t begin = segments[s].offset, count = segments[s].count;
    const T lr(step->learning_rate * segments[s].learning_rate_scale);
    const T decay(segments[s].weight_decay);
    for (int64_t i = begin; i < begin + count; ++i) {
      T& w = View<T>(master)(0, i);
      T& m = View<T>(exp_avg)(0, i);
      T& v = View<T>(exp_avg_sq)(0, i);
      const T g = View<T>(gradient)(0, i) * T(gradient_scale(params, all));
      m = beta1 * m + (T(1) - beta1) * g;
      v = beta2 * v + (T(1) - beta2) * g * g;
      const T m_hat = m * T(step->correction1), v_hat = v * T(step->correction2);
      w = w * (T(1) - lr * decay) - lr * m_hat / (std::sqrt(v_hat) + T(params.epsilon));
    }
    RefOps::cast(
        make_vector(master.as<T>() + begin, master.dtype, count, "masters"),
        make_vector(static_cast<char*>(weights) + segments[s].weight_offset, segments[s].storage, count, "weights"));
  }
}

}  // namespace mor::ref
