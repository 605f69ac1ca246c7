// GraphRecording: capture and launch, and the clean-up after an error.
#include "cuda/graph_recording.h"

namespace mor::cuda {

namespace {

/// Holds a stream in capture mode and ends the mode in any case. The mode is of this thread alone, so other threads may
/// allocate meanwhile.
class Capture {
 public:
  explicit Capture(Stream& stream) : stream_(stream), handle_(stream.handle()) {
    stream.check(cudaStreamBeginCapture(handle_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  }
  ~Capture() {
    if (!ended_) {
      cudaStreamEndCapture(handle_, &graph_);
      cudaGetLastError();  // clears the error: the device goes on working after a capture that was given up
    }
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Ends the capture.
  cudaGraph_t graph() {
    ended_ = true;
    const cudaError_t status = cudaStreamEndCapture(handle_, &graph_);
    if (status != cudaSuccess) cudaGetLastError();
    stream_.check(status, "cudaStreamEndCapture");
    return graph_;
  }

 private:
  Stream& stream_;
  cudaStream_t handle_;
  cudaGraph_t graph_ = nullptr;
  bool ended_ = false;
};

}  // namespace

GraphRecording::~GraphRecording() {
  forget();
}

void GraphRecording::forget() noexcept {
  if (graph_ == nullptr) return;
  stream_.drain();
  cudaGraphExecDestroy(graph_);
  graph_ = nullptr;
}

void GraphRecording::run(const RecordingKey& key, const std::function<void()>& work) {
  if (!has_key_ || key != key_) {
    forget();
    has_key_ = too_large_ = false;
    work();
    key_ = key;
    has_key_ = true;
    return;
  }
  if (graph_ == nullptr && !too_large_) {
    graph_ = capture(work);
    too_large_ = graph_ == nullptr;
  }
  if (too_large_) return work();
  const cudaStream_t stream = stream_.handle();
  stream_.check(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

/// Null if the device has no memory left for the graph itself.
cudaGraphExec_t GraphRecording::capture(const std::function<void()>& work) {
  Capture capture(stream_);
  work();
  cudaGraphExec_t graph = nullptr;
  cudaError_t status = cudaGraphInstantiate(&graph, capture.graph(), 0);
  const char* what = "cudaGraphInstantiate";
  if (status == cudaSuccess) {
    what = "cudaGraphUpload";  // allocates the rest of the graph's memory, which else the first launch would do
    status = cudaGraphUpload(graph, stream_.handle());
  }
  if (status == cudaSuccess) return graph;
  if (graph != nullptr) cudaGraphExecDestroy(graph);
  cudaGetLastError();
  if (status != cudaErrorMemoryAllocation) stream_.check(status, what);
  return nullptr;
}

}  // namespace mor::cuda
