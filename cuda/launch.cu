// Stream: creation, errors, waiting, time; and events.
#include "cuda/launch.h"

namespace mor::cuda {

namespace {

/// Is never launched: it is asked what the kernels of this build were compiled for.
__global__ void empty_kernel() {}

}  // namespace

Stream::Stream(int device) : device_(device) {
  // Nothing is lost yet where the driver gives the device to another process, or has no kernel for it.
  const auto begin = [&](cudaError_t status, const char* what) {
    if (status == cudaSuccess || status == cudaErrorMemoryAllocation) return check(status, what);
    cudaGetLastError();
    MOR_FAIL(DEVICE_UNAVAILABLE, "cuda:", device_, " cannot be used: ", what, ": ", cudaGetErrorString(status),
             "; stop the process that has it for itself, use another GPU, or use device: 'cpu'");
  };
  begin(cudaSetDevice(device), "cudaSetDevice");
  begin(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  cudaFuncAttributes attributes = {};
  begin(cudaFuncGetAttributes(&attributes, empty_kernel), "cudaFuncGetAttributes");
  starts_early_ = attributes.ptxVersion >= 90;
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
  MOR_CHECK(status != cudaErrorStreamCaptureUnsupported && status != cudaErrorStreamCaptureInvalidated, INTERNAL, what,
            " cannot be captured: ", cudaGetErrorString(status));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the driver had no room for a kernel's code or a graph: nothing ran, and nothing is lost
    MOR_FAIL(OUT_OF_MEMORY, "cuda:", device_, " has no memory left for ", what,
             "; stop other programs that use the GPU, or use a smaller batch");
  }
  lost_ = concat("cuda:", device_, " was lost in ", what, ": ", cudaGetErrorString(status),
                 ". It cannot run this model any more; save what you can on the CPU and start a new process");
  throw_if_lost();
}

void Stream::synchronize() {
  const cudaStream_t stream = handle();
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

void Stream::drain() noexcept {
  if (cudaSetDevice(device_) == cudaSuccess) cudaStreamSynchronize(stream_);
}

double Stream::seconds(const std::function<void()>& work) {
  Event begin(*this, cudaEventDefault), end(*this, cudaEventDefault);
  begin.record(*this);
  work();
  end.record(*this);
  synchronize();
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.handle(), end.handle()), "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

Event::Event(Stream& stream, unsigned flags) {
  stream.handle();  // makes the device current, whose event this becomes
  stream.check(cudaEventCreateWithFlags(&event_, flags), "cudaEventCreateWithFlags");
}

void Event::record(Stream& stream) {
  const cudaStream_t handle = stream.handle();
  stream.check(cudaEventRecord(event_, handle), "cudaEventRecord");
}

void Event::wait(Stream& stream) {
  stream.handle();
  stream.check(cudaEventSynchronize(event_), "cudaEventSynchronize");
}

}  // namespace mor::cuda
