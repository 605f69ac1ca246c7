// expert_choice_loss on the CPU: sums over fixed stretches of rows, added in order, so that they do not depend on the
// number of threads.
#include "ops/checks/expert_choice_loss.h"

#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {
constexpr int64_t kRowsPerPartial = 512;
constexpr int64_t kNanosecondsPerRow = 25;

struct Sums {
  double cross_entropy = 0, squares = 0, agreements = 0;
};
}  // namespace

void CpuOps::expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                                double z_scale, const Tensor& sums, const Tensor& d_scores) {
  check_expert_choice_loss(scores, sums, d_scores);
  const int64_t rows = scores.count(), stretches = stretches_of(rows, kRowsPerPartial);
  const float* s = scores.as<float>();
  float* ds = d_scores ? d_scores.as<float>() : nullptr;
  const float bce = static_cast<float>(bce_scale), z = static_cast<float>(2 * z_scale);
  const ArenaScope scope(scratch_);
  Sums* partial = scratch_.array<Sums>(stretches);
  constexpr int64_t kCost = kRowsPerPartial * kNanosecondsPerRow;
  parallel_stretches(rows, kRowsPerPartial, kCost, [&](int64_t stretch, int64_t begin, int64_t end) {
    Sums local;
    for (int64_t i = begin; i < end; ++i) {
      const float y = selected[i] != 0 ? 1.0f : 0.0f, e = std::exp(-std::fabs(s[i]));
      local.cross_entropy += std::max(s[i], 0.0f) - s[i] * y + std::log1p(e);
      local.squares += double{s[i]} * s[i];
      local.agreements += (double{s[i]} >= threshold) == (selected[i] != 0) ? 1 : 0;
      if (ds != nullptr) ds[i] += bce * ((s[i] >= 0 ? 1 : e) / (1 + e) - y) + z * s[i];
    }
    partial[stretch] = local;
  });
  Sums total;
  for (int64_t stretch = 0; stretch < stretches; ++stretch) {
    total.cross_entropy += partial[stretch].cross_entropy;
    total.squares += partial[stretch].squares;
    total.agreements += partial[stretch].agreements;
  }
  float* out = sums.as<float>();
  out[0] += static_cast<float>(total.cross_entropy);
  out[1] += static_cast<float>(total.squares);
  out[2] += static_cast<float>(total.agreements);
}

}  // namespace mor::MOR_CPU_ISA
