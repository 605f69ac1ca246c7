// expert_choice_loss: the shapes it accepts, for every device.
#pragma once

#include "ops/checks/shapes.h"

namespace mor {

inline void check_expert_choice_loss(const Tensor& scores, const Tensor& sums, const Tensor& d_scores) {
  const char* op = "expert_choice_loss";
  check_vector(op, scores, scores.count());
  check_vector(op, sums, 3);
  if (d_scores) check_vector(op, d_scores, scores.count());
}

}  // namespace mor
