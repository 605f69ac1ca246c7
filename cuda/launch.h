// Stream: one CUDA stream and the error, if any, that ended it; Event: a place in its work; launch: the one way in
// which kernels are started.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

#include "core/check.h"

namespace mor::cuda {

/// The stream of one CudaOps: its work runs in program order. After the first CUDA error every call throws that same
/// error, DEVICE_LOST, because the contents of device memory cannot be trusted any more.
class Stream {
 public:
  /// Throws DEVICE_UNAVAILABLE where the driver refuses the device, OUT_OF_MEMORY.
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int device() const { return device_; }
  /// Whether kernels start before the one in front of them has ended. They were compiled for compute capability 9.0 or
  /// later, so that wait_for_earlier_kernels (cuda/tile/earlier_kernels.cuh) waits.
  bool starts_early() const { return starts_early_; }
  /// Makes the device current on the calling thread. Throws DEVICE_LOST after an error.
  cudaStream_t handle();
  /// Throws DEVICE_LOST, in this call and in all later ones, if `status` is an error. Two errors do not end the stream:
  /// INTERNAL, if the call cannot be part of the graph that is being captured, and OUT_OF_MEMORY. what: the call that
  /// returned the status.
  void check(cudaError_t status, const char* what);
  /// Waits until all work in the stream is done.
  void synchronize();
  /// Waits likewise, but ignores errors.
  void drain() noexcept;
  /// The seconds that the device takes for what work() puts into the stream; waits.
  double seconds(const std::function<void()>& work);

 private:
  void throw_if_lost() const;
  int device_;
  cudaStream_t stream_ = nullptr;
  bool starts_early_ = false;
  std::string lost_;  ///< the first error's message
};

/// A place in the work of a stream.
class Event {
 public:
  /// flags: cudaEventDefault if it is to be timed.
  explicit Event(Stream& stream, unsigned flags = cudaEventDisableTiming);
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  cudaEvent_t handle() const { return event_; }
  /// The place behind all that the stream was told so far.
  void record(Stream& stream);
  /// The host waits until the stream has come to the place. Returns at once if none was recorded.
  void wait(Stream& stream);

 private:
  cudaEvent_t event_ = nullptr;
};

/// Dynamic shared memory that a kernel may use without setting an attribute: 48 KiB less room for static arrays.
constexpr size_t kSharedWithoutAsking = size_t{32} << 10;

/// Starts kernel<<<grid, block, shared>>>(arguments...), or nothing if the grid has no blocks. Where the stream starts
/// kernels early, it may run beside the kernel before it, and every kernel calls wait_for_earlier_kernels. cluster: so
/// many neighbours in x are a cluster (cuda/tile/cluster.cuh); grid.x is a multiple of it.
template <unsigned cluster = 1, class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Stream& stream,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream.handle();
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (stream.starts_early()) {
    cudaLaunchAttribute& early = attributes[config.numAttrs++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  if constexpr (cluster > 1) {
    cudaLaunchAttribute& blocks = attributes[config.numAttrs++];
    blocks.id = cudaLaunchAttributeClusterDimension;
    blocks.val.clusterDim = {cluster, 1, 1};
  }
  if (shared > kSharedWithoutAsking)
    stream.check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
                 "cudaFuncSetAttribute");
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, arguments...);
  if (status == cudaSuccess) return;
  const char* name = "a kernel";
  cudaFuncGetName(&name, kernel);
  stream.check(status, name);
}

/// How many blocks of `per_block` cover n.
inline unsigned blocks_for(int64_t n, int64_t per_block) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  MOR_CHECK(blocks <= 0x7fffffff, INVALID_ARGUMENT, "the CUDA device cannot run ", blocks, " blocks at once");
  return static_cast<unsigned>(blocks);
}

}  // namespace mor::cuda
