// Fault: invalid input that only a kernel can see, because it lies in device memory. The host throws it when it next
// waits.
#pragma once

#include <cuda_runtime.h>

#include "cuda/launch.h"

namespace mor::cuda {

enum class FaultKind : int32_t { none, target_outside_vocabulary, k_outside_sequence };

/// Lies in host memory that the device can write. It keeps the first fault since the last wait.
struct Fault {
  int32_t taken;
  FaultKind kind;
  int32_t where, value, limit;
};

__device__ inline void report(Fault* fault, FaultKind kind, int32_t where, int32_t value, int32_t limit) {
  if (atomicCAS(&fault->taken, 0, 1) != 0) return;
  fault->where = where;
  fault->value = value;
  fault->limit = limit;
  fault->kind = kind;
  __threadfence_system();
}

/// Owns one Fault on the host.
class FaultBox {
 public:
  explicit FaultBox(Stream& stream);
  ~FaultBox();
  FaultBox(const FaultBox&) = delete;
  FaultBox& operator=(const FaultBox&) = delete;

  Fault* device() const { return device_; }
  /// Throws the fault that a kernel has reported, once: INVALID_ARGUMENT or TOKEN_OUT_OF_RANGE. The caller has waited
  /// for the stream.
  void throw_if_any();

 private:
  Fault *host_ = nullptr, *device_ = nullptr;
};

}  // namespace mor::cuda
