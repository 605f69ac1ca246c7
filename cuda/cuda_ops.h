// CudaOps: the Ops of one NVIDIA GPU; ops/ has one file for each op.
#pragma once

#include "cuda/fault.h"
#include "cuda/launch.h"
#include "cuda/staging.h"
#include "cuda/tile/bf16.cuh"
#include "ops/ops.h"

namespace mor::cuda {

/// All work goes through one stream in program order. Only copy_to_host, synchronize and the ops that return a value
/// wait for the device. Invalid input that only a kernel can see is thrown by the next call that waits.
/// The class is hidden, so that the linker refuses a shared object too if an op has no definition.
class __attribute__((visibility("hidden"))) CudaOps : public Ops {
 public:
  /// device: CUDA's number of a usable GPU (cuda_device.h). compute: float32 or bfloat16.
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
  /// How many rows the selection has whose sequences start at `start` [sequences + 1]; waits.
  SelectedRows read_selection(const int32_t* start, int32_t sequences);

  Stream stream_;
  DType compute_;
  FaultBox fault_;
  Staging staging_;
  Arena scratch_;  ///< for one op at a time; ops share it safely, since their kernels run in the stream's order
};

/// Runs body with a value of the device's type for a dtype: with_type(x.dtype, [&](auto type) { … }).
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
