// The list of GPUs by the CUDA runtime, which is linked statically and opens the driver only when it is first called.
// Must not know of ops' implementations.
#include "cuda/cuda_device.h"
#include "cuda/cuda_ops.h"

namespace mor {

namespace {

constexpr int kOldestMajor = 8;  // mma.sync in bf16 and cp.async

std::string version_name(int version) {
  return concat(version / 1000, ".", version % 1000 / 10);
}

/// What keeps this process from any GPU; code is INTERNAL where nothing does.
struct Obstacle {
  ErrorCode code = ErrorCode::INTERNAL;
  std::string reason;
};

Obstacle find_obstacle(int* count) {
  *count = 0;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return {ErrorCode::DEVICE_UNAVAILABLE,
            "no NVIDIA driver was found (looked for libcuda.so.1); install one, or use device: 'cpu'"};
  const cudaError_t status = cudaGetDeviceCount(count);
  if (status == cudaErrorInsufficientDriver)
    return {ErrorCode::DRIVER_TOO_OLD,
            concat("the NVIDIA driver supports CUDA ", version_name(driver), ", but ", version_name(CUDART_VERSION),
                   " is needed; update the driver, or use device: 'cpu'")};
  if (status == cudaErrorNoDevice || (status == cudaSuccess && *count == 0))
    return {ErrorCode::DEVICE_UNAVAILABLE,
            "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES hides those it does not name); use device: 'cpu'"};
  if (status != cudaSuccess)
    return {ErrorCode::DEVICE_UNAVAILABLE,
            concat("the NVIDIA driver lists no GPUs: ", cudaGetErrorString(status), "; use device: 'cpu'")};
  return {};
}

CudaInfo info_of(int index) {
  CudaInfo info;
  info.index = index;
  cudaDeviceProp properties;
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status != cudaSuccess) {
    info.usable = false;
    info.reason = concat("the driver does not describe it: ", cudaGetErrorString(status));
    return info;
  }
  info.name = properties.name;
  info.memory_bytes = properties.totalGlobalMem;
  info.compute_capability = concat(properties.major, ".", properties.minor);
  if (properties.major < kOldestMajor) {
    info.usable = false;
    info.reason = concat("compute capability ", info.compute_capability, ", but ", kOldestMajor,
                         ".0 (Ampere) or newer is needed");
  }
  return info;
}

}  // namespace

std::vector<CudaInfo> cuda_devices(std::string* reason) {
  int count = 0;
  const Obstacle obstacle = find_obstacle(&count);
  if (reason != nullptr) *reason = obstacle.reason;
  std::vector<CudaInfo> devices;
  for (int i = 0; obstacle.reason.empty() && i < count; ++i) devices.push_back(info_of(i));
  return devices;
}

std::unique_ptr<Ops> make_cuda_ops(int index, DType compute) {
  int count = 0;
  const Obstacle obstacle = find_obstacle(&count);
  if (!obstacle.reason.empty())
    throw Error(obstacle.code, concat("device 'cuda:", index, "': ", obstacle.reason), __FILE__, __LINE__);
  MOR_CHECK(index >= 0 && index < count, DEVICE_UNAVAILABLE, "device 'cuda:", index, "': there are ", count,
            " GPUs, numbered from 0");
  const CudaInfo info = info_of(index);
  MOR_CHECK(info.usable, DEVICE_TOO_OLD, "device 'cuda:", index, "' (", info.name, "): ", info.reason,
            "; use device: 'cpu'");
  return std::make_unique<cuda::CudaOps>(index, compute);
}

}  // namespace mor
