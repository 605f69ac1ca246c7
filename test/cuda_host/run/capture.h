// Streams of the host run: what is put into one happens at once, or, while it is captured, becomes a node of a graph.
// Must not know what the nodes do.
#pragma once

#include <functional>

#include "test/cuda_host/include/cuda_runtime.h"

namespace mor::cuda_host {

/// Runs `action`, or keeps it for the graph that `stream` is capturing; stream may be null.
cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> action);
/// Whether `stream` is being captured.
bool capturing(cudaStream_t stream);
/// What a call gets that cannot be part of a graph: an error that also spoils the capture.
cudaError_t refuse_in_capture(cudaStream_t stream);
/// The same for calls without a stream that a capture of this thread forbids: memory taken or given back.
/// cudaSuccess where there is none.
cudaError_t refuse_while_capturing();

}  // namespace mor::cuda_host
