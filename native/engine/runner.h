// Runner: carries out the stages that the scheduler plans on a device.
#pragma once

#include <vector>

#include "engine/device_plan.h"
#include "engine/kv_cache.h"
#include "engine/recordings.h"
#include "engine/sampler.h"
#include "engine/scheduler_plan.h"
#include "model/layer_run.h"
#include "model/routing.h"

namespace mor {

class Runner {
 public:
  /// stream_rows: the most tokens in flight. `model` and `cache` must outlive the runner.
  Runner(const Model& model, const KvCache& cache, int32_t stream_rows);

  // Each puts a stage into the device's queue, and has read the plan when it returns.
  void launch_entry(const StagePlan& plan);
  void launch_block(const StagePlan& plan);
  void launch_exit(const StagePlan& plan);
  /// The outcome of the stage launched last, for its commit. Waits for the device only if there is something to read.
  /// The reference is valid until the next launch.
  const StageOutcome& collect();

  size_t memory_bytes() const { return buffers_.capacity() + arena_.capacity(); }

 private:
  /// Stages that have recordings of their own.
  enum class Stage : uint8_t { entry, block, block_of_queries, exit, exit_without_token };

  int32_t spare_rows(int32_t stream_rows) const;
  DevicePlan begin_stage(const StagePlan& plan, bool layers);
  void run(Stage stage, const DevicePlan& device, const Tensor& x, const std::function<void()>& work);
  void leave_block(const DevicePlan& device, const Tensor& x, const Tensor& exit_gate);
  void begin_scores(const DevicePlan& device);
  void score_next(const DevicePlan& device);
  void score(const DevicePlan& device, const RecursionRows& at, const RouterTensors& router, const Tensor& all);
  void read_scores();
  Tensor upload_master(std::vector<double> values, int32_t count, const char* name);

  const Model& model_;
  const KvCache& cache_;
  const ModelConfig& config_;
  const RoutingRules rules_;
  Ops& ops_;
  Arena buffers_, arena_;  ///< memory for the life of the engine, and for one stage
  LayerContext context_;
  /// [stream_rows + spare rows, d] the residual stream of every token in flight, by slot. Token choice has two,
  /// which follow one another in `stream_`: `entered_` is x, which entered the block, and `block_output_` is f^r(x),
  /// its output so far (docs/model.md section 4).
  Tensor stream_, entered_, block_output_;
  Layers before_, block_, block_of_queries_, after_;
  Sampler sampler_;
  Recordings recordings_;
  PlanUpload upload_;
  // Of the stage launched last, in device memory, for `collect`.
  Tensor scores_;                  ///< [DevicePlan::scores]
  std::vector<int32_t> score_of_;  ///< [rows] where each row's score is among them; empty: identity
  TokenChoice choice_;             ///< of the rows that entered; empty gate: there is none
  Tensor sampled_;                 ///< rows of the stream that the sampler reads; empty: it has none
  const int32_t* sampled_rows_ = nullptr;
  StageOutcome outcome_;
};

}  // namespace mor
