// The schedules of learning rate and depth.
#include "train/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace mor {

double Schedule::rate(double peak, int64_t t) const {
  if (type != ScheduleType::constant) t = std::min(t, total_steps - 1);
  if (t < warmup_steps) return peak * static_cast<double>(t + 1) / static_cast<double>(warmup_steps);
  if (type == ScheduleType::constant) return peak;
  if (type == ScheduleType::trapezoid) {
    if (t < total_steps - cooldown_steps) return peak;
    return peak * static_cast<double>(total_steps - t) / static_cast<double>(cooldown_steps);
  }
  const double progress =
      static_cast<double>(t - warmup_steps) / static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  return peak * (minimum_ratio + (1 - minimum_ratio) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress)));
}

int32_t DepthSchedule::recursions(int32_t num_recursions, int64_t t) const {
  int32_t n = num_recursions;
  if (t < steps)
    n = from + static_cast<int32_t>(std::floor(static_cast<double>(num_recursions - from) * static_cast<double>(t) /
                                               static_cast<double>(steps)));
  if (n == 1) return n;
  const Philox4 bits = philox(0, 0, static_cast<uint64_t>(t));
  if (double{uniform_from_bits(bits.v[0])} >= dropout) return n;
  return 1 + static_cast<int32_t>(bits.v[1] % static_cast<uint32_t>(n - 1));
}

}  // namespace mor
