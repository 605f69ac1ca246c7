// Staging: pieces of pinned memory, filled in turn.
#include <algorithm>
#include <cstring>

#include "cuda/staging.h"

namespace mor::cuda {

Staging::Staging(Stream& stream)
    : stream_(stream), copied_{Event(stream), Event(stream), Event(stream), Event(stream)} {
  stream.check(cudaHostAlloc(reinterpret_cast<void**>(&memory_), kPieces * kPieceBytes, cudaHostAllocDefault),
               "cudaHostAlloc");
}

Staging::~Staging() {
  stream_.drain();
  cudaFreeHost(memory_);
}

void Staging::copy_to_device(void* device, const void* host, size_t bytes) {
  constexpr size_t kAlignment = 64;
  const cudaStream_t stream = stream_.handle();
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  stream_.check(cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing");
  if (capture != cudaStreamCaptureStatusNone) stream_.check(cudaErrorStreamCaptureUnsupported, "copy_to_device");
  for (size_t done = 0; done < bytes;) {
    if (used_ == kPieceBytes) {
      copied_[piece_].record(stream_);
      piece_ = (piece_ + 1) % kPieces;
      used_ = 0;
      copied_[piece_].wait(stream_);
    }
    const size_t n = std::min(bytes - done, kPieceBytes - used_);
    char* here = memory_ + piece_ * kPieceBytes + used_;
    std::memcpy(here, static_cast<const char*>(host) + done, n);
    stream_.check(cudaMemcpyAsync(static_cast<char*>(device) + done, here, n, cudaMemcpyHostToDevice, stream),
                  "copy_to_device");
    used_ = std::min(kPieceBytes, (used_ + n + kAlignment - 1) / kAlignment * kAlignment);
    done += n;
  }
}

}  // namespace mor::cuda
