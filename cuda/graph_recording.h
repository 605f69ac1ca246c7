// GraphRecording: work of one stream, kept as a CUDA graph and launched as one. Must not know what the work is.
#pragma once

#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "ops/ops.h"

namespace mor::cuda {

/// One graph at a time: it holds memory of the device, and a key that has changed (a capacity that is warming up, rows
/// of another length) seldom comes back.
class GraphRecording final : public Recording {
 public:
  explicit GraphRecording(Stream& stream) : stream_(stream) {}
  /// Waits for what it has launched.
  ~GraphRecording() override;
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;

  /// Ops::replay. The first meeting with a key runs work() as it stands, so that every op finds its scratch memory
  /// large enough when the second one captures it: nothing can be allocated then. Work whose graph finds no room on the
  /// device goes on running as it stands.
  void run(const RecordingKey& key, const std::function<void()>& work);

 private:
  cudaGraphExec_t capture(const std::function<void()>& work);
  void forget() noexcept;

  Stream& stream_;
  RecordingKey key_;        ///< of what ran last
  bool met_ = false;        ///< whether anything has run
  bool too_large_ = false;  ///< whether its graph did not fit the device's memory
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace mor::cuda
