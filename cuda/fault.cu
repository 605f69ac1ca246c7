// FaultBox: turns what a kernel reported into the error that the CPU device would throw.
#include <utility>
#include <vector>

#include "cuda/fault.h"
#include "ops/checks/cross_entropy.h"
#include "ops/checks/select.h"

namespace mor::cuda {

FaultBox::FaultBox(Stream& stream) {
  stream.check(cudaHostAlloc(reinterpret_cast<void**>(&host_), sizeof(Fault), cudaHostAllocMapped), "cudaHostAlloc");
  *host_ = {};
  stream.check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&device_), host_, 0), "cudaHostGetDevicePointer");
}

FaultBox::~FaultBox() {
  cudaFreeHost(host_);
}

void FaultBox::throw_if_any() {
  if (host_->kind == FaultKind::none) return;
  const Fault fault = std::exchange(*host_, Fault{});
  const auto where = static_cast<size_t>(fault.where);
  // The checks in ops/checks word the errors. They get input that is right everywhere but at the fault.
  if (fault.kind == FaultKind::target_outside_vocabulary) {
    std::vector<int32_t> target(where + 1, 0);
    target[where] = fault.value;
    check_targets(target.data(), fault.where + 1, fault.limit);
  } else {
    check_k(fault.where, fault.value, fault.limit);
  }
}

}  // namespace mor::cuda
