// ControlGroupLimits: how much of the machine this process may use, as Linux's control groups say.
#pragma once

#include <cstddef>
#include <limits>
#include <string>

namespace mor {

/// The least limits of the control group of a process and of those around it.
struct ControlGroupLimits {
  double processors = std::numeric_limits<double>::infinity();  ///< processors' worth of time; infinite: no limit
  size_t memory_bytes = std::numeric_limits<size_t>::max();     ///< the largest value: no limit
};

/// Of this process. Without control groups there are no limits.
ControlGroupLimits control_group_limits();

/// membership: the text of /proc/self/cgroup, whose lines are `<id>:<controllers>:<path>`; root: where control groups
/// are mounted. Groups of both versions count: `cpu.max` and `memory.max`, or `cpu.cfs_quota_us` and
/// `memory.limit_in_bytes`.
ControlGroupLimits control_group_limits(const std::string& membership, const std::string& root);

}  // namespace mor
