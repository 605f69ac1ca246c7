// Stream capture and graphs of the host run: a node is a call with a copy of its arguments, and runs at every launch of
// its graph.
#include "test/cuda_host/run/capture.h"

#include <memory>
#include <vector>

struct cudaGraphOnHost {
  std::vector<std::function<cudaError_t()>> nodes;
};
struct cudaGraphExecOnHost {
  std::vector<std::function<cudaError_t()>> nodes;
  void* memory = nullptr;  ///< device memory, taken when the graph is uploaded
};
struct cudaStreamOnHost {
  std::unique_ptr<cudaGraphOnHost> graph;  ///< not null while the stream is captured
  bool spoiled = false;                    ///< whether the capture met a call that cannot be captured
};

namespace mor::cuda_host {

namespace {
/// The stream that this thread captures (with cudaStreamCaptureModeThreadLocal).
thread_local cudaStream_t captured_here = nullptr;
}  // namespace

bool capturing(cudaStream_t stream) {
  return stream != nullptr && stream->graph != nullptr;
}

cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> action) {
  if (!capturing(stream)) return action();
  if (stream->spoiled) return cudaErrorStreamCaptureInvalidated;
  stream->graph->nodes.push_back(std::move(action));
  return cudaSuccess;
}

cudaError_t refuse_in_capture(cudaStream_t stream) {
  stream->spoiled = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t refuse_while_capturing() {
  return captured_here == nullptr ? cudaSuccess : refuse_in_capture(captured_here);
}

}  // namespace mor::cuda_host

using namespace mor::cuda_host;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new cudaStreamOnHost;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (captured_here == stream) captured_here = nullptr;
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;  // the default stream
  if (capturing(stream)) return cudaErrorIllegalState;
  stream->graph = std::make_unique<cudaGraphOnHost>();
  stream->spoiled = false;
  captured_here = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!capturing(stream)) return cudaErrorIllegalState;
  captured_here = nullptr;
  const std::unique_ptr<cudaGraphOnHost> ended = std::move(stream->graph);
  *graph = stream->spoiled ? nullptr : new cudaGraphOnHost(*ended);
  return stream->spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new cudaGraphExecOnHost{graph->nodes, nullptr};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  constexpr size_t kBytesOfANode = 1024;
  return executable->memory != nullptr
             ? cudaSuccess
             : cudaMalloc(&executable->memory, kBytesOfANode * (executable->nodes.size() + 1));
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const cudaError_t status = cudaFree(executable->memory);
  delete executable;
  return status;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (capturing(stream)) return refuse_in_capture(stream);
  for (const std::function<cudaError_t()>& node : executable->nodes)
    if (const cudaError_t status = node(); status != cudaSuccess) return status;
  return cudaSuccess;
}
