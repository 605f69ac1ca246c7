// Tests of the schedules of the learning rate at their ends.
#include "train/schedule.h"

#include <gtest/gtest.h>

namespace mor::test {
namespace {

TEST(Schedule, StepsAfterTheLastKeepItsRate) {
  for (const ScheduleType type : {ScheduleType::cosine, ScheduleType::trapezoid})
    for (const int64_t warmup : {0, 3, 9, 10}) {
      Schedule schedule;
      schedule.type = type;
      schedule.total_steps = 10;
      schedule.warmup_steps = warmup;
      schedule.minimum_ratio = 0.1;
      const double last = schedule.rate(2, 9);
      for (const int64_t t : {10, 11, 1000}) EXPECT_EQ(schedule.rate(2, t), last) << warmup << ", step " << t;
      if (warmup == 10) {
        EXPECT_EQ(last, 2);
      }
    }
}

}  // namespace
}  // namespace mor::test
