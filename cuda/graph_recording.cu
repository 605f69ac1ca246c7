// GraphRecording: capture, launch, and what must not stay behind after an error. Must not know what the work is.
#include "cuda/graph_recording.h"

namespace mor::cuda {

namespace {

/// A stream in capture mode; out of it again whatever happens. Of this thread alone: others may allocate meanwhile.
class Capture {
 public:
  explicit Capture(Stream& stream) : stream_(stream), handle_(stream.handle()) {
    stream.check(cudaStreamBeginCapture(handle_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  }
  ~Capture() {
    if (!ended_) {
      cudaStreamEndCapture(handle_, &graph_);
      cudaGetLastError();  // a capture that was given up ends no device
    }
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// Ends it.
  cudaGraph_t graph() {
    ended_ = true;
    stream_.check(cudaStreamEndCapture(handle_, &graph_), "cudaStreamEndCapture");
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
  if (!met_ || key != key_) {
    forget();
    met_ = false;
    work();
    key_ = key;
    met_ = true;
    return;
  }
  if (graph_ == nullptr) graph_ = capture(work);
  const cudaStream_t stream = stream_.handle();
  stream_.check(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

cudaGraphExec_t GraphRecording::capture(const std::function<void()>& work) {
  Capture capture(stream_);
  work();
  cudaGraphExec_t graph = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&graph, capture.graph(), 0);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // running out of memory does not end the device
    MOR_FAIL(OUT_OF_MEMORY, "cuda:", stream_.device(), " has no memory left for a graph of what it has to do");
  }
  stream_.check(status, "cudaGraphInstantiate");
  return graph;
}

}  // namespace mor::cuda
