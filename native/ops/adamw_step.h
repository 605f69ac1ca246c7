// The scalars of one AdamW step, the same on every device.
#pragma once

#include <cmath>

#include "ops/ops.h"

namespace mor {

/// What the gradient is multiplied by, so that its norm does not exceed the limit.
inline double gradient_scale(const AdamWParams& params, double norm) {
  return params.gradient_clip > 0 ? std::fmin(1, params.gradient_clip / (norm + 1e-6)) : 1.0;
}

/// step: the number of the step, counted from 1.
inline AdamWStep adamw_step(const AdamWParams& params, double learning_rate, int64_t step) {
  MOR_CHECK(step >= 1, INVALID_ARGUMENT, "adamw: step is ", step, ", but steps count from 1");
  AdamWStep values;
  values.learning_rate = learning_rate;
  values.correction1 = 1 / (1 - std::pow(params.beta1, static_cast<double>(step)));
  values.correction2 = 1 / (1 - std::pow(params.beta2, static_cast<double>(step)));
  return values;
}

}  // namespace mor
