// GraphRecording: work of one stream, recorded as a CUDA graph and launched as one.
#pragma once

#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "ops/ops.h"

namespace mor::cuda {

/// Keeps one graph at a time, since a graph holds device memory, and a key that was left (a capacity that is warming
/// up, sequences of another length) seldom comes back.
class GraphRecording final : public Recording {
 public:
  explicit GraphRecording(Stream& stream) : stream_(stream) {}
  /// Waits for the graphs that it has launched.
  ~GraphRecording() override;
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;

  /// Ops::replay. The first run with a key calls work() without a graph, so that every op's scratch memory has grown
  /// when the second run is captured: nothing can be allocated during capture. Work whose graph does not fit into the
  /// device's memory is always called without a graph.
  void run(const RecordingKey& key, const std::function<void()>& work);

 private:
  cudaGraphExec_t capture(const std::function<void()>& work);
  void forget() noexcept;

  Stream& stream_;
  RecordingKey key_;        ///< of the last run
  bool has_key_ = false;    ///< whether a run has set key_
  bool too_large_ = false;  ///< whether the graph of that key did not fit into the device's memory
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace mor::cuda
