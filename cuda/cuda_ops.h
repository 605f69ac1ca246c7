// CudaOps: the Ops of one NVIDIA GPU, one op per file in ops/. Must not know of models.
#pragma once

#include <vector>

#include "cuda/fault.h"
#include "cuda/launch.h"
#include "cuda/tile/bf16.cuh"
#include "ops/ops.h"

namespace mor::cuda {

/// All work goes through one stream in program order. Nothing waits but copy_to_host, synchronize and the ops that
/// return a value; bad input that only a kernel can see is thrown by the next of these.
/// Hidden, so that the linker refuses a shared object too where an op has no definition.
class __attribute__((visibility("hidden"))) CudaOps : public Ops {
 public:
  /// device: as CUDA counts them; must be usable (cuda_device.h). compute: float32 or bfloat16.
  CudaOps(int device, DType compute);

  Stream& stream() { return stream_; }

  const char* name() const override { return "cuda"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return DType::float32; }

  void* allocate(size_t bytes) override;
  void release(void* pointer, size_t bytes) noexcept override;
  bool records() const override { return true; }
  void replay(std::unique_ptr<Recording>& recording, const RecordingKey& key,
              const std::function<void()>& work) override;
#define MOR_OP(result, name, parameters) result name parameters override
#include "ops/op_list.h"

 private:
  /// One number of device memory; waits.
  int32_t read_count(const int32_t* device);

  Stream stream_;
  DType compute_;
  bool reads_host_memory_ = false;  ///< the GPU itself, while the host goes on: no copy in between keeps it safe
  FaultBox fault_;
  Arena scratch_;  ///< for one op at a time; released when its kernels are in the stream, whose order keeps it apart
};

/// Takes scratch memory back when the op returns.
class ScratchScope {
 public:
  explicit ScratchScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ScratchScope() { arena_.release(mark_); }
  ScratchScope(const ScratchScope&) = delete;
  ScratchScope& operator=(const ScratchScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

/// Runs body with a value of the device's type for a compute or master dtype: with_type(x.dtype, [&](auto t) {…}).
template <class Body>
void with_type(DType dtype, const Body& body) {
  if (dtype == DType::bfloat16) {
    body(bf16{});
  } else {
    MOR_CHECK(dtype == DType::float32, INVALID_ARGUMENT, "the CUDA device computes in float32 or bfloat16, not ",
              dtype_name(dtype));
    body(float{});
  }
}

}  // namespace mor::cuda
