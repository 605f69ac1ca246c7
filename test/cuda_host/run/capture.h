// Streams of the host run: a call that is put into one runs at once or, while the stream is captured, becomes a node of
// a graph.
#pragma once

#include <functional>

#include "test/cuda_host/include/cuda_runtime.h"

namespace mor::cuda_host {

/// Runs `action` or, while `stream` is captured, adds it to the graph. stream may be null.
cudaError_t put(cudaStream_t stream, std::function<cudaError_t()> action);
/// Whether `stream` is being captured.
bool capturing(cudaStream_t stream);
/// For a call that cannot be part of a graph: spoils the capture and returns the error.
cudaError_t refuse_in_capture(cudaStream_t stream);
/// For a call without a stream that must not happen while this thread captures (to take or free memory): the same, or
/// cudaSuccess if this thread captures nothing.
cudaError_t refuse_while_capturing();

}  // namespace mor::cuda_host
