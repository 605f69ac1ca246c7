// DevicePlan: a stage's plan in device memory, with as many rows as the device is to run. Must not know what a stage
// does with them.
#pragma once

#include <vector>

#include "core/arena.h"
#include "engine/scheduler_plan.h"
#include "ops/ops.h"

namespace mor {

/// With how many rows and keys a stage runs: those of its plan. Where the device repeats what it has recorded and every
/// sequence has one row, rounded up, so that few recordings serve all stages.
struct Extent {
  bool recorded;
  int32_t rows, keys, blocks;
};

/// layers: whether the stage runs any.
Extent extent_of(const StagePlan& plan, bool records, bool layers);
/// Rows of a recorded extent for so many of its plan.
int32_t rounded_rows(int32_t rows);

/// Consecutive rows that stand at one recursion (0: they enter), whose scores are computed together. A recorded stage
/// computes those of all its rows for every recursion that any stands at, so that how many rows stand at which does not
/// matter to the recording.
struct RecursionRows {
  int32_t recursion;
  int32_t first, rows;
  int32_t at;  ///< of the first's score among the scores of the stage
};

/// Rows beyond the plan's, up to the extent's, see nothing and stay in stream slots of their own that no token has;
/// their keys and values go nowhere. The lists [exits] and [last] are filled up to as many rows likewise, but not if
/// the stage has no use for them.
struct DevicePlan {
  Extent extent;
  Rows rows;  ///< source: null
  const int32_t *slot, *source, *token, *exits, *exit_slot, *last, *last_slot;
  int32_t exit_count = 0, last_count = 0;
  std::vector<RecursionRows> recursions;
  int32_t scores = 0;                  ///< of all `recursions`
  const int32_t* score_of = nullptr;   ///< [rows] where each row's score lies among them; null: identity
  std::vector<int32_t> host_score_of;  ///< the same, of the plan's rows; empty: identity
};

class PlanUpload {
 public:
  /// two_sources: rows of recursion 1 read the stream, those of later ones a second one that lies behind it (token
  /// choice). stream_rows: rows of one of them. spare_slot: the first of those that no token has.
  PlanUpload(Ops& ops, bool two_sources, int32_t stream_rows, int32_t spare_slot)
      : ops_(ops), two_sources_(two_sources), stream_rows_(stream_rows), spare_slot_(spare_slot) {}

  /// One copy for everything, to memory of `arena`. Plans with one extent, and rows at the same recursions if it is
  /// recorded, lie alike in it.
  DevicePlan operator()(const StagePlan& plan, const Extent& extent, Arena& arena);

 private:
  /// Both return where the values begin in integers_.
  size_t append(const std::vector<int32_t>& values);
  /// Followed by `filler`, `filler` + step, … up to `count` values.
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
