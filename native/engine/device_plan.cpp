// DevicePlan: rounds sizes up, fills lists up and joins them for one copy.
#include "engine/device_plan.h"

#include <algorithm>
#include <bit>

namespace mor {

namespace {

constexpr int32_t kFewestKeys = 256;  // for fewer keys a device needs no less work in parallel
constexpr int32_t kRowsOfATile = 64;  // of a matrix product: a tile costs the same however many of its rows are used

int32_t rounded_keys(int32_t keys) {
  return std::max(kFewestKeys, static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(keys))));
}

}  // namespace

int32_t rounded_rows(int32_t rows) {
  if (rows > kRowsOfATile) return (rows + kRowsOfATile - 1) / kRowsOfATile * kRowsOfATile;
  return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(rows)));
}

Extent extent_of(const StagePlan& plan, bool records, bool layers) {
  if (!records || plan.max_rows > 1) return {false, plan.rows(), plan.max_keys, plan.blocks_per_group};
  if (!layers) return {true, rounded_rows(plan.rows()), 0, 0};
  const int32_t keys = rounded_keys(plan.max_keys);
  return {true, rounded_rows(plan.rows()), keys, (keys + plan.block_size - 1) / plan.block_size};
}

const int32_t* PlanUpload::append(const std::vector<int32_t>& values, size_t count, int32_t filler, int32_t step) {
  const size_t at = used_, end = at + std::max(count, values.size());
  std::copy(values.begin(), values.end(), &integers_[at]);
  for (used_ += values.size(); used_ < end; ++used_, filler += step) integers_[used_] = filler;
  return device_ + at;
}

const int32_t* PlanUpload::append_tables(const StagePlan& plan, size_t tables, size_t columns) {
  const size_t at = used_;
  for (size_t g = 0; g < std::min(tables, plan.table.size()); ++g, used_ += columns) {
    const size_t n = static_cast<size_t>(plan.blocks_of_group(g));
    std::fill_n(std::copy_n(plan.table[g], n, &integers_[used_]), columns - n, 0);
  }
  std::fill_n(&integers_[used_], at + tables * columns - used_, 0);
  used_ = at + tables * columns;
  return device_ + at;
}

void PlanUpload::find_recursions(const StagePlan& plan, DevicePlan& device) {
  const bool block = !plan.recursion_start.empty();
  const std::vector<int32_t> start = block ? plan.recursion_start : std::vector<int32_t>{0, plan.rows()};
  for (size_t i = 0; i + 1 < start.size(); ++i) {
    if (start[i] == start[i + 1]) continue;
    const int32_t recursion = static_cast<int32_t>(i) + (block ? 1 : 0);
    if (device.extent.recorded) {
      for (int32_t row = start[i]; row < start[i + 1]; ++row) device.host_score_of.push_back(device.scores + row);
      device.recursions.push_back({recursion, 0, device.extent.rows, device.scores});
    } else {
      device.recursions.push_back({recursion, start[i], start[i + 1] - start[i], start[i]});
    }
    device.scores += device.recursions.back().rows;
  }
}

DevicePlan PlanUpload::operator()(const StagePlan& plan, const Extent& extent, Arena& arena) {
  DevicePlan d;
  d.extent = extent;
  find_recursions(plan, d);
  const size_t rows = static_cast<size_t>(extent.rows), beyond = rows - plan.slot.size();
  const size_t groups = plan.groups.size() + beyond, tables = extent.blocks == 0 ? 0 : groups;
  const size_t columns = static_cast<size_t>(extent.blocks);
  const auto count = [&](bool used, const std::vector<int32_t>& values) {
    return !used ? 0 : extent.recorded ? rows : values.size();
  };
  const bool block = !plan.recursion_start.empty(), two_sources = two_sources_ && block;
  const size_t tokens = count(!plan.token.empty(), plan.token), exits = count(two_sources, plan.exits),
               lasts = count(!plan.last.empty(), plan.last);
  const size_t most = 11 * rows + groups + 1 + tables * columns;
  if (integers_.size() < most) integers_.resize(most);
  used_ = 0;
  device_ = arena.array<int32_t>(static_cast<int64_t>(most));

  d.rows.count = extent.rows;
  d.rows.key_lists = static_cast<int32_t>(groups);
  d.rows.max_rows = plan.max_rows;
  d.rows.max_keys = extent.keys;
  d.rows.block_size = plan.block_size;
  d.rows.blocks_per_list = extent.blocks;
  d.exit_count = static_cast<int32_t>(exits);
  d.last_count = static_cast<int32_t>(lasts);
  d.slot = d.source = append(plan.slot, rows, spare_slot_, 1);
  d.rows.position = append(plan.position, rows, 0, 0);
  d.rows.visible = append(plan.visible, rows, 0, 0);
  d.rows.slot = append(plan.cache_slot, rows, -1, 0);
  d.rows.start = append(plan.start, groups + 1, plan.rows() + 1, 1);
  if (two_sources) {
    const size_t at = used_;
    d.source = append(plan.slot, rows, spare_slot_, 1);
    for (size_t i = static_cast<size_t>(plan.recursion_start[1]); i < rows; ++i) integers_[at + i] += stream_rows_;
  }
  d.rows.block_table = append_tables(plan, tables, columns);
  d.token = append(plan.token, tokens, 0, 0);
  d.last = append(plan.last, lasts, 0, 0);
  d.last_slot = append(plan.last_slot, lasts, spare_slot_, 0);
  d.exits = append(plan.exits, exits, 0, 0);
  std::vector<int32_t> exit_slot;
  for (const int32_t row : plan.exits) exit_slot.push_back(plan.slot[static_cast<size_t>(row)]);
  d.exit_slot = append(exit_slot, exits, spare_slot_, 1);
  const int32_t* score_of = append(d.host_score_of, d.host_score_of.empty() ? 0 : rows, 0, 0);
  if (d.recursions.size() > 1 && extent.recorded) d.score_of = score_of;
  ops_.copy_to_device(device_, integers_.data(), used_ * sizeof(int32_t));
  return d;
}

}  // namespace mor
