// Learning-rate schedules.
#include "train/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace mor {

void Schedule::validate() const {
  MOR_CHECK(warmup_steps >= 0, INVALID_CONFIG, "schedule: warmup_steps must not be negative, got ", warmup_steps);
  MOR_CHECK(cooldown_steps >= 0, INVALID_CONFIG, "schedule: cooldown_steps must not be negative, got ", cooldown_steps);
  if (type == ScheduleType::constant) return;
  MOR_CHECK(total_steps >= 1, INVALID_CONFIG, "schedule: total_steps must be at least 1, got ", total_steps);
  const int64_t cooldown = type == ScheduleType::trapezoid ? cooldown_steps : 0;
  MOR_CHECK(warmup_steps + cooldown <= total_steps, INVALID_CONFIG, "schedule: warm-up (", warmup_steps,
            ") and cool-down (", cooldown, ") do not fit into total_steps ", total_steps);
  MOR_CHECK(minimum_ratio >= 0 && minimum_ratio <= 1, INVALID_CONFIG, "schedule: minimum_ratio must be in [0, 1], got ",
            minimum_ratio);
}

double Schedule::rate(double peak, int64_t t) const {
  if (t < warmup_steps) return peak * static_cast<double>(t + 1) / static_cast<double>(warmup_steps);
  if (type == ScheduleType::constant) return peak;
  t = std::min(t, total_steps - 1);
  if (type == ScheduleType::trapezoid) {
    if (t < total_steps - cooldown_steps) return peak;
    return peak * static_cast<double>(total_steps - t) / static_cast<double>(cooldown_steps);
  }
  const double progress =
      static_cast<double>(t - warmup_steps) / static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  return peak * (minimum_ratio + (1 - minimum_ratio) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress)));
}

}  // namespace mor
