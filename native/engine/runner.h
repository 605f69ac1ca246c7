// Runner: carries out a stage of the scheduler's plan on a device. Must not know of requests' order or admission.
#pragma once

#include <vector>

#include "engine/kv_cache.h"
#include "engine/sampler.h"
#include "engine/scheduler_plan.h"
#include "model/model.h"
#include "model/router.h"

namespace mor {

class Runner {
 public:
  /// `stream_rows`: tokens that may be in flight. Everything must outlive the runner.
  Runner(const Model& model, const KvCache& cache, int32_t stream_rows);

  // Each puts a stage into the device's queue, and reads its plan before it returns.
  void launch_entry(const StagePlan& plan);
  void launch_block(const StagePlan& plan);
  void launch_exit(const StagePlan& plan);
  /// What the commit of the stage launched last wants to know. Waits for the device only where that is something. The
  /// reference stays valid until the next launch.
  const StageOutcome& collect();

  size_t memory_bytes() const { return buffers_.capacity() + arena_.capacity(); }

 private:
  /// With how many rows and keys the layers of a stage run: those of its plan. Where the device repeats what it has
  /// recorded and every sequence has one row, rounded up, so that few recordings serve all stages.
  struct Extent {
    bool recorded;
    int32_t rows, keys, blocks;
  };
  /// A plan in device memory.
  struct DevicePlan {
    Extent extent;
    Rows rows;  ///< source: null; those beyond the plan's see nothing and leave nothing behind
    const int32_t *slot, *source, *token, *exits, *exit_slot, *last, *last_slot;
  };
  void begin_stage();
  Extent extent_of(const StagePlan& plan, const std::vector<int32_t>& layers) const;
  DevicePlan upload(const StagePlan& plan, const std::vector<int32_t>& layers);
  void run_layers(const Extent& extent, const Rows& rows, const Tensor& stream, const Tensor& x,
                  const std::vector<int32_t>& unique, const std::vector<LayerKeys>& keys);
  std::unique_ptr<Recording>& recording_of(const RecordingKey& bucket);
  Tensor gates(const StagePlan& plan, const DevicePlan& device);
  void leave_block(const DevicePlan& device, const Tensor& x, const Tensor& gate);
  void score(const int32_t* slot, const std::vector<int32_t>& start, int32_t recursion);
  void choose_depths(const Tensor& x);
  Tensor upload_master(const std::vector<double>& values, const char* name);
  void read_master(const Tensor& tensor, std::vector<double>& values);

  const Model& model_;
  const KvCache& cache_;
  const ModelConfig& config_;
  Ops& ops_;
  Arena buffers_, arena_;  ///< for the engine's life; for one stage
  LayerContext context_;
  /// [stream_rows, d] the residual stream of every token in flight, by slot. Token choice keeps two: x, which
  /// `entered_` the block, and f^r(x), the `block_output_` so far (mor.md section 4); `stream_` holds one behind the
  /// other.
  Tensor stream_, entered_, block_output_;
  std::vector<int32_t> before_, block_, after_;                                ///< unique layers
  std::vector<LayerKeys> before_keys_, block_keys_, given_keys_, after_keys_;  ///< of each
  Tensor no_bias_;
  Sampler sampler_;
  struct Recorded {
    RecordingKey bucket;  ///< which layers, rows, keys
    std::unique_ptr<Recording> recording;
    uint64_t last_used;
  };
  std::vector<Recorded> recordings_;
  uint64_t recordings_used_ = 0;
  // Of the stage launched last, in the device's memory, where they are to be collected.
  Tensor scores_;                          ///< [rows]
  const int32_t* chosen_depth_ = nullptr;  ///< [rows]
  Tensor chosen_gate_;                     ///< [rows]
  bool sampling_ = false;
  StageOutcome outcome_;
  std::vector<int32_t> integers_;  ///< host side of `upload`; only grows
  std::vector<float> floats_;      ///< host side of `upload_master` and `read_master`
};

}  // namespace mor
