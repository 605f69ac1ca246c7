// expert_choice_loss: specification.
#pragma once

#include "ops/checks/expert_choice_loss.h"
#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

/// BCE(s, y) = log(1 + e^s) - s y, and its derivative sigmoid(s) - y.
template <class T>
void RefOps<T>::expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                                   double z_scale, const Tensor& sums, const Tensor& d_scores) {
  check_expert_choice_loss(scores, sums, d_scores);
  const View<T> scores_(scores), sum(sums), ds(d_scores ? d_scores : scores);
  for (int64_t i = 0; i < scores.count(); ++i) {
    const T s = scores_(0, i), y = selected[i] != 0 ? T(1) : T(0);
    sum(0, 0) += softplus(s) - s * y;
    sum(0, 1) += s * s;
    sum(0, 2) += (real(s) >= threshold) == (selected[i] != 0) ? T(1) : T(0);
    if (d_scores) ds(0, i) += T(bce_scale) * (sigmoid(s) - y) + T(z_scale) * T(2) * s;
  }
}

}  // namespace mor::ref
