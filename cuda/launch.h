// Stream: one CUDA stream and the error, if any, that ended it; launch: the one way kernels are started.
// Must not know of any kernel or op.
#pragma once

#include <cuda_runtime.h>

#include <functional>
#include <string>

#include "core/check.h"

namespace mor::cuda {

/// The stream all work of one CudaOps goes through, in program order. After the first CUDA error every call throws that
/// same error, DEVICE_LOST: what the device holds is not to be trusted any more.
class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int device() const { return device_; }
  /// Makes the device current on the calling thread. Throws DEVICE_LOST after an error.
  cudaStream_t handle();
  /// Throws DEVICE_LOST, now and from now on, if `status` is an error. Once only: INTERNAL for a call that cannot be
  /// part of a graph while one is captured, OUT_OF_MEMORY where the call found no memory. what: the call that returned
  /// it.
  void check(cudaError_t status, const char* what);
  /// Waits until everything put into the stream has happened.
  void synchronize();
  /// The same where nobody is to hear of errors.
  void drain() noexcept;
  /// Seconds on the device from before to after what work() puts into the stream; waits.
  double seconds(const std::function<void()>& work);

 private:
  void throw_if_lost() const;
  int device_;
  cudaStream_t stream_ = nullptr;
  std::string lost_;  ///< the first error's message
};

/// Dynamic shared memory that a kernel may ask for without an attribute: of 48 KiB, what every kernel's static arrays
/// leave.
constexpr size_t kSharedWithoutAsking = size_t{32} << 10;

/// Starts kernel<<<grid, block, shared>>>(arguments...). A grid of no blocks is no work.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, Stream& stream,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream.handle();
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
