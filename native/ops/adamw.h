// global_norm and adamw: the shapes they accept and the scalars of one step, for every device. Must not know how the
// elements are updated.
#pragma once

#include <cmath>

#include "ops/ops.h"
#include "ops/shapes.h"

namespace mor {

inline void check_global_norm(const Tensor& gradient, const Tensor& norm) {
  check_vector("global_norm", gradient, gradient.count());
  check_vector("global_norm", norm, 1);
}

inline void check_adamw(const Tensor& master, const Tensor& weights, const Tensor& gradient, const Tensor& exp_avg,
                        const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments,
                        int32_t segment_count, const AdamWParams& params) {
  const char* op = "adamw";
  check_vector(op, master, master.count());
  for (const Tensor* tensor : {&weights, &gradient, &exp_avg, &exp_avg_sq}) check_vector(op, *tensor, master.count());
  check_vector(op, norm, 1);
  MOR_CHECK(params.step >= 1, INVALID_ARGUMENT, op, ": step is ", params.step, ", but steps count from 1");
  for (int32_t s = 0; s < segment_count; ++s)
    MOR_CHECK(
        segments[s].offset >= 0 && segments[s].count >= 0 && segments[s].offset + segments[s].count <= master.count(),
        INVALID_ARGUMENT, op, ": segment ", s, " covers ", segments[s].offset, " .. ",
        segments[s].offset + segments[s].count, ", but the buffers hold ", master.count(), " elements");
}

/// What one step needs besides the elements.
struct AdamWScalars {
  bool finite;                      ///< false: nothing may change
  double gradient_scale;            ///< min(1, clip / (norm + 1e-6))
  double correction1, correction2;  ///< 1 / (1 - beta^step)
};

inline AdamWScalars adamw_scalars(const AdamWParams& params, double norm) {
  const double step = static_cast<double>(params.step);
  AdamWScalars scalars;
  scalars.finite = std::isfinite(norm);
  scalars.gradient_scale = params.gradient_clip > 0 ? std::fmin(1, params.gradient_clip / (norm + 1e-6)) : 1.0;
  scalars.correction1 = 1 / (1 - std::pow(params.beta1, step));
  scalars.correction2 = 1 / (1 - std::pow(params.beta2, step));
  return scalars;
}

}  // namespace mor
