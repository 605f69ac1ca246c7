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

  // Each gives what its plan's commit wants to know, and waits for the device only where that is something. The
  // references stay valid until the next stage.
  const StageOutcome& run_entry(const StagePlan& plan);
  const StageOutcome& run_block(const StagePlan& plan);
  const StageOutcome& run_exit(const StagePlan& plan);

  size_t memory_bytes() const { return buffers_.capacity() + arena_.capacity(); }

 private:
  /// A plan in device memory.
  struct DevicePlan {
    Rows rows;  ///< source: null
    const int32_t *slot, *source, *token, *exits, *exit_slot, *last, *last_slot;
  };
  DevicePlan upload(const StagePlan& plan);
  void run_layers(const Rows& rows, const Tensor& stream, const Tensor& x, const std::vector<int32_t>& unique,
                  const std::vector<LayerKeys>& keys);
  Tensor gates(const StagePlan& plan, const DevicePlan& device);
  void leave_block(const DevicePlan& device, const Tensor& x, const Tensor& gate);
  void read_scores(const int32_t* slot, const std::vector<int32_t>& start, int32_t recursion);
  void choose_depths(const Tensor& x);
  Tensor upload_master(const std::vector<double>& values, const char* name);
  void read_master(const Tensor& tensor, double* values);

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
  StageOutcome outcome_;
  std::vector<int32_t> integers_;  ///< host side of `upload`
  std::vector<float> floats_;      ///< host side of `upload_master` and `read_master`
};

}  // namespace mor
