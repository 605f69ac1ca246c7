// Learning-rate schedules (docs/model.md section 6).
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

}  // namespace mor
