// Stream: creation, errors. Must not know of any kernel or op.
#include "cuda/launch.h"

namespace mor::cuda {

Stream::Stream(int device) : device_(device) {
  check(cudaSetDevice(device), "cudaSetDevice");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Stream::~Stream() {
  if (cudaSetDevice(device_) == cudaSuccess) cudaStreamDestroy(stream_);
}

void Stream::throw_if_lost() const {
  MOR_CHECK(lost_.empty(), DEVICE_LOST, lost_);
}

cudaStream_t Stream::handle() {
  throw_if_lost();
  check(cudaSetDevice(device_), "cudaSetDevice");
  return stream_;
}

void Stream::check(cudaError_t status, const char* what) {
  throw_if_lost();
  if (status == cudaSuccess) return;
  lost_ = concat("cuda:", device_, " was lost in ", what, ": ", cudaGetErrorString(status),
                 ". It takes no more work from this model; save what you can on the CPU and start a new process");
  throw_if_lost();
}

void Stream::synchronize() {
  const cudaStream_t stream = handle();
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

}  // namespace mor::cuda
