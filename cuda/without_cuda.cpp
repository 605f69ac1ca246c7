// cuda_device.h for a build without the CUDA device: it lists no GPU and says why.
#include "cuda/cuda_device.h"

namespace mor {

namespace {
constexpr const char* kReason =
    "this build has no CUDA device, because it was made without MOR_CUDA=ON; install the CUDA toolkit and build again "
    "with: npm run build:native -- --CDMOR_CUDA=ON, or use device: 'cpu'";
}

std::vector<DeviceInfo> cuda_devices() {
  return {unusable_gpu("cuda", ErrorCode::DEVICE_UNAVAILABLE, kReason)};
}

std::unique_ptr<Ops> make_cuda_ops(int index, DType) {
  MOR_FAIL(DEVICE_UNAVAILABLE, "device 'cuda:", index, "': ", kReason);
}

double cuda_seconds(Ops&, const std::function<void()>&) {
  MOR_FAIL(DEVICE_UNAVAILABLE, kReason);
}

void* cuda_stream(Ops&) {
  MOR_FAIL(DEVICE_UNAVAILABLE, kReason);
}

std::unique_ptr<Communicator> make_nccl_communicator(Ops&, HostRanks&) {
  MOR_FAIL(DEVICE_UNAVAILABLE, kReason);
}

}  // namespace mor
