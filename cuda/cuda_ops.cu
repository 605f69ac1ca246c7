// CudaOps: allocation, copies, waiting and replay. The arithmetic of ops is in ops/.
#include <algorithm>
#include <vector>

#include "cuda/cuda_ops.h"
#include "cuda/graph_recording.h"

namespace mor::cuda {

CudaOps::CudaOps(int device, DType compute)
    : stream_(device), compute_(compute), fault_(stream_), staging_(stream_), scratch_(*this) {
  MOR_CHECK(compute == DType::float32 || compute == DType::bfloat16, INVALID_ARGUMENT,
            "the CUDA device computes in float32 or bfloat16, not ", dtype_name(compute));
}

void* CudaOps::allocate(size_t bytes) {
  stream_.handle();
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes == 0 ? 1 : bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the error: after a failed allocation the device goes on working
    size_t free = 0, total = 0;
    stream_.check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    MOR_FAIL(OUT_OF_MEMORY, "cuda:", stream_.device(), " has no ", bytes, " bytes in one piece left: ", free,
             " of its ", total, " bytes are free");
  }
  stream_.check(status, "cudaMalloc");
  return pointer;
}

void CudaOps::release(void* pointer, size_t) noexcept {
  // cudaFree waits for the device, so no kernel loses memory that it still uses. A lost device frees nothing.
  if (pointer != nullptr && cudaSetDevice(stream_.device()) == cudaSuccess) cudaFree(pointer);
}

void CudaOps::copy_to_device(void* device, const void* host, size_t bytes) {
  staging_.copy_to_device(device, host, bytes);
}

void CudaOps::copy_to_host(void* host, const void* device, size_t bytes) {
  const cudaStream_t stream = stream_.handle();
  stream_.check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream), "copy_to_host");
  synchronize();
}

void CudaOps::copy(void* to, const void* from, size_t bytes) {
  const cudaStream_t stream = stream_.handle();
  stream_.check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
}

void CudaOps::zero(void* device, size_t bytes) {
  const cudaStream_t stream = stream_.handle();
  stream_.check(cudaMemsetAsync(device, 0, bytes, stream), "zero");
}

void CudaOps::synchronize() {
  stream_.synchronize();
  fault_.throw_if_any();
}

void CudaOps::replay(std::unique_ptr<Recording>& recording, const RecordingKey& key,
                     const std::function<void()>& work) {
  if (recording == nullptr) recording = std::make_unique<GraphRecording>(stream_);
  static_cast<GraphRecording&>(*recording).run(key, work);
}

SelectedRows CudaOps::read_selection(const int32_t* start, int32_t sequences) {
  std::vector<int32_t> starts(static_cast<size_t>(sequences) + 1);
  copy_to_host(starts.data(), start, starts.size() * sizeof(int32_t));
  SelectedRows selected{starts.back(), 0};
  for (size_t s = 1; s < starts.size(); ++s) selected.max_rows = std::max(selected.max_rows, starts[s] - starts[s - 1]);
  return selected;
}

}  // namespace mor::cuda
