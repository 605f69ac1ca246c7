// Runner: runs the stages that the scheduler has planned on a device.
#pragma once

#include <vector>

#include "engine/device_plan.h"
#include "engine/kv_cache.h"
#include "engine/recordings.h"
#include "engine/sampler.h"
#include "engine/scheduler_plan.h"
#include "model/model.h"
#include "model/router.h"

namespace mor {

class Runner {
 public:
  /// stream_rows: the most tokens in flight. `model` and `cache` must outlive the runner.
  Runner(const Model& model, const KvCache& cache, int32_t stream_rows);

  // Each puts a stage into the device's queue. The plan is not read after the call returns.
  void launch_entry(const StagePlan& plan);
  void launch_block(const StagePlan& plan);
  void launch_exit(const StagePlan& plan);
  /// The outcome of the stage that was launched last. Waits for the device only if that stage has an outcome. The
  /// reference is valid until the next launch.
  const StageOutcome& collect();

  size_t memory_bytes() const { return buffers_.capacity() + arena_.capacity(); }

 private:
  /// Kinds of work with recordings of their own.
  enum class Stage : uint8_t { entry, block, block_of_queries, exit, exit_without_token };

  int32_t spare_rows(int32_t stream_rows) const;
  DevicePlan begin_stage(const StagePlan& plan, bool layers);
  void run(Stage stage, const DevicePlan& device, const Tensor& x, const std::function<void()>& work);
  void run_layers(const Rows& rows, const Tensor& stream, const Tensor& x, const std::vector<int32_t>& unique,
                  const std::vector<LayerKeys>& keys);
  void leave_block(const DevicePlan& device, const Tensor& x, const Tensor& exit_gate);
  void begin_scores(const DevicePlan& device);
  void score_next(const DevicePlan& device);
  void score(const DevicePlan& device, const RecursionRows& at, const RouterTensors& router, const Tensor& all);
  void read_scores();
  void choose_depths(const Tensor& x, int32_t* depth, const Tensor& gate);
  Tensor upload_master(std::vector<double> values, int32_t count, const char* name);
  void read_master(const Tensor& tensor, std::vector<double>& values);

  const Model& model_;
  const KvCache& cache_;
  const ModelConfig& config_;
  const RoutingRules rules_;
  Ops& ops_;
  Arena buffers_, arena_;  ///< memory for the life of the engine, and for one stage
  LayerContext context_;
  /// [stream_rows + spare rows, d] the residual stream of every token in flight, by slot. Token choice has two streams:
  /// x as it `entered_` the block, and the `block_output_` F^r(x) so far (docs/model.md section 4). `stream_` is both,
  /// one after the other.
  Tensor stream_, entered_, block_output_;
  std::vector<int32_t> before_, block_, after_;                                ///< unique layers
  std::vector<LayerKeys> before_keys_, block_keys_, given_keys_, after_keys_;  ///< of each
  Tensor no_bias_;
  Sampler sampler_;
  Recordings recordings_;
  PlanUpload upload_;
  // Results in device memory of the stage that was launched last; empty or null if it has none.
  Tensor scores_;                          ///< [DevicePlan::scores]
  std::vector<int32_t> score_of_;          ///< [rows] index of each row's score among them; empty: identity
  const int32_t* chosen_depth_ = nullptr;  ///< [rows]
  Tensor chosen_gate_;                     ///< [rows]
  bool sampling_ = false;
  StageOutcome outcome_;
  std::vector<float> floats_;  ///< host buffer of `upload_master` and `read_master`
};

}  // namespace mor
