// DevicePlan: the plan of a stage in device memory, padded to the number of rows that the device runs.
#pragma once

#include <vector>

#include "core/arena.h"
#include "engine/scheduler_plan.h"
#include "ops/ops.h"

namespace mor {

/// How many rows and keys a stage runs with. These are the numbers of its plan, but on a device that records a stage
/// whose sequences have one row each is rounded up, so that few recordings serve all stages.
struct Extent {
  bool recorded;
  int32_t rows, keys, blocks;
};

/// records: whether the device records. layers: whether the stage runs any layers.
Extent extent_of(const StagePlan& plan, bool records, bool layers);
/// How many rows a recorded stage has if its plan has `rows`.
int32_t rounded_rows(int32_t rows);

/// Consecutive rows at one recursion (0: before the first), whose scores one router computes together. In a recorded
/// stage every router computes the scores of all rows, so that the recording does not depend on how many rows are at
/// which recursion.
struct RecursionRows {
  int32_t recursion;
  int32_t first, rows;
  int32_t at;  ///< index of the first row's score among the scores of the stage
};

/// Padding rows, from the plan's number up to the extent's, see no keys, use stream slots of their own that belong to
/// no token, and store no keys and values. The lists [exits] and [last] are padded to the same number, unless the stage
/// does not use them.
struct DevicePlan {
  Extent extent;
  Rows rows;  ///< source: null
  const int32_t *slot, *source, *token, *exits, *exit_slot, *last, *last_slot;
  int32_t exit_count = 0, last_count = 0;
  std::vector<RecursionRows> recursions;
  int32_t scores = 0;                  ///< number of scores of all `recursions`
  const int32_t* score_of = nullptr;   ///< [rows] index of each row's score among them; null: identity
  std::vector<int32_t> host_score_of;  ///< the same on the host, for the plan's rows; empty: identity
};

class PlanUpload {
 public:
  /// two_sources: whether rows of later recursions read a second stream buffer, which follows the first (token choice).
  /// stream_rows: rows of one stream buffer. spare_slot: the first stream slot that belongs to no token.
  PlanUpload(Ops& ops, bool two_sources, int32_t stream_rows, int32_t spare_slot)
      : ops_(ops), two_sources_(two_sources), stream_rows_(stream_rows), spare_slot_(spare_slot) {}

  /// Uploads everything by one copy into memory of `arena`. Plans with the same extent have the same layout there, if a
  /// recorded one also has rows at the same recursions.
  DevicePlan operator()(const StagePlan& plan, const Extent& extent, Arena& arena);

 private:
  /// Both return the index in integers_ at which the values begin.
  size_t append(const std::vector<int32_t>& values);
  /// Pads the values to `count` with filler, filler + step, …
  size_t append(const std::vector<int32_t>& values, size_t count, int32_t filler, int32_t step);
  size_t append_tables(const StagePlan& plan, size_t tables, size_t columns);
  static void find_recursions(const StagePlan& plan, DevicePlan& device);

  Ops& ops_;
  bool two_sources_;
  int32_t stream_rows_, spare_slot_;
  std::vector<int32_t> integers_;  ///< only grows
  size_t used_ = 0;
};

}  // namespace mor
