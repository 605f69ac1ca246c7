// What changes from step to step: the learning rate (docs/model.md section 6) and the depth (section 11).
#pragma once

#include <cstdint>

namespace mor {

enum class ScheduleType : uint8_t { constant, cosine, trapezoid };

struct Schedule {
  ScheduleType type = ScheduleType::constant;
  int64_t warmup_steps = 0;    ///< linear from peak/warmup to peak
  int64_t total_steps = 0;     ///< cosine and trapezoid: the last step is total_steps - 1; later steps keep its rate
  int64_t cooldown_steps = 0;  ///< trapezoid: linear from peak to peak/cooldown over the last steps
  double minimum_ratio = 0.1;  ///< cosine ends at peak * minimum_ratio

  /// Rate of step t = 0, 1, …
  double rate(double peak, int64_t t) const;
};

/// Training steps run few recursions at first, and all N later; and of both a share runs fewer, drawn at random.
struct DepthSchedule {
  int32_t from = 1;    ///< recursions of the first step
  int64_t steps = 0;   ///< from this step on, counted from 0, all N run; 0: they always do
  double dropout = 0;  ///< share of the steps that run fewer recursions, of which every number is as likely

  /// Recursions of step t: n = from + floor((N - from) t / steps), so that every number below N has as many steps; or
  /// one of 1 … n - 1. The draw depends on t alone.
  int32_t recursions(int32_t num_recursions, int64_t t) const;
};

}  // namespace mor
