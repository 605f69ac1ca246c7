// DevicePlan: a stage's plan in device memory, with as many rows as the device is to run.
#pragma once

#include <vector>

#include "core/arena.h"
#include "engine/scheduler_plan.h"
#include "ops/ops.h"

namespace mor {

/// How many rows and keys a stage runs with: those of its plan. If the device records work (Ops::records) and every
/// sequence has one row, the numbers are rounded up, so that few recordings serve all stages.
struct Extent {
  bool recorded;
  int32_t rows, keys, blocks;
};

/// records: whether the device records. layers: whether the stage runs any layers.
Extent extent_of(const StagePlan& plan, bool records, bool layers);
/// Rows of a recorded stage whose plan has `rows`.
int32_t rounded_rows(int32_t rows);

/// Consecutive rows at one recursion (0: they enter), which one router scores together. In a recorded stage the router
/// of every recursion that occurs scores all rows, so that the recording does not depend on how many rows are at which.
struct RecursionRows {
  int32_t recursion;
  int32_t first, rows;
  int32_t at;  ///< where the first row's score is among the scores of the stage
};

/// Behind the plan's rows there are spare rows up to the extent's number. They see no keys, write none, and have stream
/// slots of their own, which no token uses. `exits` and `last` are filled up in the same way, if the stage uses them.
struct DevicePlan {
  Extent extent;
  Rows rows;  ///< source: null
  const int32_t *slot, *source, *token, *exits, *exit_slot, *last, *last_slot;
  int32_t exit_count = 0, last_count = 0;
  std::vector<RecursionRows> recursions;
  int32_t scores = 0;                  ///< number of scores of all `recursions`
  const int32_t* score_of = nullptr;   ///< [rows] where each row's score is among them; null: identity
  std::vector<int32_t> host_score_of;  ///< the same, of the plan's rows; empty: identity
};

class PlanUpload {
 public:
  /// two_sources: rows of recursion 1 read the stream, rows of later recursions a second stream behind it (token
  /// choice). stream_rows: rows of one stream. spare_slot: the first row of a stream that no token uses.
  PlanUpload(Ops& ops, bool two_sources, int32_t stream_rows, int32_t spare_slot)
      : ops_(ops), two_sources_(two_sources), stream_rows_(stream_rows), spare_slot_(spare_slot) {}

  /// Copies everything at once to memory of `arena`. Plans of one extent, and with rows at the same recursions if it is
  /// recorded, have the same layout there.
  DevicePlan operator()(const StagePlan& plan, const Extent& extent, Arena& arena);

 private:
  /// These append to integers_ and return where the appended values will be in device memory.
  /// Pads the values to `count` with filler, filler + step, …
  const int32_t* append(const std::vector<int32_t>& values, size_t count, int32_t filler, int32_t step);
  const int32_t* append_tables(const StagePlan& plan, size_t tables, size_t columns);
  static void find_recursions(const StagePlan& plan, DevicePlan& device);

  Ops& ops_;
  bool two_sources_;
  int32_t stream_rows_, spare_slot_;
  std::vector<int32_t> integers_;  ///< only grows
  size_t used_ = 0;
  int32_t* device_ = nullptr;  ///< where they will be
};

}  // namespace mor
