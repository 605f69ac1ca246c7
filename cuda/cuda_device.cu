// The list of GPUs as the CUDA runtime gives it. The runtime is linked statically and opens the driver when it is first
// called.
#include "cuda/cuda_device.h"
#include "cuda/cuda_ops.h"

namespace mor {

namespace {

constexpr int kOldestMajor = 8;  // mma.sync in bf16 and cp.async
/// The oldest NVIDIA driver for all minor versions of this CUDA.
constexpr int kOldestDriver = CUDART_VERSION >= 13000 ? 580 : 525;

std::string version_name(int version) {
  return concat(version / 1000, ".", version % 1000 / 10);
}

DeviceInfo info_of(int index) {
  const std::string id = concat("cuda:", index);
  cudaDeviceProp properties;
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status != cudaSuccess) {
    cudaGetLastError();  // CUB's sorts would fail by it on other GPUs
    return unusable_gpu(id, ErrorCode::DEVICE_UNAVAILABLE,
                        concat("the NVIDIA driver does not describe it: ", cudaGetErrorString(status)));
  }
  const std::string capability = concat(properties.major, ".", properties.minor);
  DeviceInfo info;
  if (properties.major < kOldestMajor)
    info = unusable_gpu(id, ErrorCode::DEVICE_TOO_OLD,
                        concat("compute capability ", capability, ", but ", kOldestMajor,
                               ".0 (Ampere) or newer is needed; use device: 'cpu'"));
  info.id = id;
  info.type = "cuda";
  info.name = properties.name;
  info.memory_bytes = properties.totalGlobalMem;
  info.compute_capability = capability;
  return info;
}

}  // namespace

std::vector<DeviceInfo> cuda_devices() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return {unusable_gpu("cuda", ErrorCode::DRIVER_MISSING,
                         "no NVIDIA driver was found (looked for libcuda.so.1); install one, or use device: 'cpu'")};
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver)
    return {unusable_gpu(
        "cuda", ErrorCode::DRIVER_TOO_OLD,
        concat("the NVIDIA driver supports CUDA ", version_name(driver), ", but ", version_name(CUDART_VERSION),
               " is needed; install driver ", kOldestDriver, " or newer, or use device: 'cpu'"))};
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return {unusable_gpu("cuda", ErrorCode::DEVICE_NOT_FOUND,
                         "the NVIDIA driver shows no GPU (CUDA_VISIBLE_DEVICES hides those it does not name); use "
                         "device: 'cpu'")};
  if (status != cudaSuccess)
    return {
        unusable_gpu("cuda", ErrorCode::DEVICE_UNAVAILABLE,
                     concat("the NVIDIA driver lists no GPUs: ", cudaGetErrorString(status), "; use device: 'cpu'"))};
  std::vector<DeviceInfo> devices;
  for (int i = 0; i < count; ++i) devices.push_back(info_of(i));
  return devices;
}

std::unique_ptr<Ops> make_cuda_ops(int index, DType compute) {
  const std::vector<DeviceInfo> devices = cuda_devices();
  const auto count = static_cast<int>(devices.size());
  const bool listed = devices.front().id != "cuda";
  MOR_CHECK(!listed || (index >= 0 && index < count), DEVICE_NOT_FOUND, "device 'cuda:", index, "': there ",
            count == 1 ? "is " : "are ", count, count == 1 ? " GPU" : " GPUs", ", numbered from 0");
  const DeviceInfo& info = devices[listed ? static_cast<size_t>(index) : 0];
  if (!info.usable)
    throw Error(info.code, concat("device 'cuda:", index, "' (", info.name, "): ", info.reason), __FILE__, __LINE__);
  return std::make_unique<cuda::CudaOps>(index, compute);
}

double cuda_seconds(Ops& ops, const std::function<void()>& work) {
  return static_cast<cuda::CudaOps&>(ops).stream().seconds(work);
}

void* cuda_stream(Ops& ops) {
  return static_cast<cuda::CudaOps&>(ops).stream().handle();
}

}  // namespace mor
