// ControlGroupLimits: reads the files of a control group and of those around it.
#include "core/control_group.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace mor {

namespace {

using std::filesystem::path;

/// Empty where there is no such file.
std::string text_of(const path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Both values are positive where there is a limit: `max 100000` and `-1 100000` are none.
void limit_processors(ControlGroupLimits& limits, const std::string& quota_and_period) {
  double quota = 0, period = 0;
  std::istringstream(quota_and_period) >> quota >> period;
  if (quota > 0 && period > 0) limits.processors = std::min(limits.processors, quota / period);
}

/// `max` is no limit.
void limit_memory(ControlGroupLimits& limits, const std::string& bytes) {
  size_t value = 0;
  std::istringstream(bytes) >> value;
  if (value > 0) limits.memory_bytes = std::min(limits.memory_bytes, value);
}

/// One group.
void read_group(const path& folder, bool has_processors, bool has_memory, ControlGroupLimits& limits) {
  if (has_processors) {
    limit_processors(limits, text_of(folder / "cpu.max"));
    limit_processors(limits, text_of(folder / "cpu.cfs_quota_us") + " " + text_of(folder / "cpu.cfs_period_us"));
  }
  if (has_memory) {
    limit_memory(limits, text_of(folder / "memory.max"));
    limit_memory(limits, text_of(folder / "memory.limit_in_bytes"));
  }
}

}  // namespace

ControlGroupLimits control_group_limits() {
  return control_group_limits(text_of("/proc/self/cgroup"), "/sys/fs/cgroup");
}

ControlGroupLimits control_group_limits(const std::string& membership, const std::string& root) {
  ControlGroupLimits limits;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    // The second version has one tree for all controllers; the first has one for each, or for several.
    const auto controls = [all = "," + controllers + ","](const char* name) {
      return all == ",," || all.find(std::string(",") + name + ",") != std::string::npos;
    };
    const bool has_processors = controls("cpu"), has_memory = controls("memory");
    if (!has_processors && !has_memory) continue;
    // In a container the path may be that of the machine, whose beginning is missing here: groups that are not there
    // have no limits, and the root is that of the container.
    const path mount = path(root) / controllers;
    path folder = mount;
    read_group(folder, has_processors, has_memory, limits);
    for (const path& name : path(group).relative_path()) {
      if (name == "..") break;
      folder /= name;
      read_group(folder, has_processors, has_memory, limits);
    }
  }
  return limits;
}

}  // namespace mor
