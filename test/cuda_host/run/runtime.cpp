// The CUDA runtime API of the host run: one device, whose memory only kernels and copies may access. Calls run at once.
#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "test/cuda_host/run/capture.h"

struct cudaEventOnHost {
  std::chrono::steady_clock::time_point time;
  uint64_t copies = 0;  ///< of the device when the event was recorded
  bool recorded = false;
};

namespace mor::cuda_host {

namespace {

constexpr size_t kSharedByDefault = size_t{48} << 10, kSharedAtMost = size_t{227} << 10;  // bytes per block, sm_90

/// A copy from pinned memory that the host has not waited for.
struct Reading {
  const char* source;
  std::string bytes;  ///< what the copy read
  uint64_t number;    ///< of the copy
};

struct Device {
  std::recursive_mutex mutex;  ///< one kernel or copy at a time
  std::map<char*, size_t> allocations, pinned;
  size_t used = 0;
  std::unordered_map<const void*, size_t> shared_allowed;
  std::vector<Reading> readings;
  uint64_t copies = 0;  ///< from pinned memory
  int waits = 0;
  std::function<void()> late_copy;  ///< a copy to the device that has not read its source yet
  std::string error;                ///< of the kernel that failed; not empty: the device is lost

  /// Whether one allocation holds all of [pointer, pointer + bytes).
  bool holds(const void* pointer, size_t bytes) const { return holds(allocations, pointer, bytes); }
  static bool holds(const std::map<char*, size_t>& allocations, const void* pointer, size_t bytes) {
    auto* p = const_cast<char*>(static_cast<const char*>(pointer));
    auto after = allocations.upper_bound(p);
    if (after == allocations.begin()) return false;
    const auto& [data, size] = *std::prev(after);
    return p + bytes <= data + size;
  }
};

Device& device() {
  static Device instance;
  return instance;
}

/// Makes device memory accessible as long as it lives. At other times AddressSanitizer reports every access, because on
/// a GPU the host cannot access device memory.
class Access {
 public:
  Access() : lock_(device().mutex) {
    for (const auto& [data, bytes] : device().allocations) __asan_unpoison_memory_region(data, bytes);
  }
  ~Access() {
    for (const auto& [data, bytes] : device().allocations) __asan_poison_memory_region(data, bytes);
  }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

/// The host waits for the copies up to this number.
cudaError_t wait_for_copies(uint64_t number) {
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  ++device().waits;
  auto& readings = device().readings;
  for (const Reading& reading : readings)
    if (reading.number <= number && std::memcmp(reading.source, reading.bytes.data(), reading.bytes.size()) != 0)
      device().error = "pinned memory has changed before the host waited for the copy from it";
  readings.erase(std::remove_if(readings.begin(), readings.end(), [&](const Reading& r) { return r.number <= number; }),
                 readings.end());
  return device().error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

/// Does the late copy, if there is one.
void finish_late_copy() {
  if (const auto copy = std::exchange(device().late_copy, nullptr)) copy();
}

}  // namespace

cudaError_t allow_shared_memory(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kSharedAtMost) return cudaErrorInvalidValue;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  device().shared_allowed[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& thread) {
  const dim3 g = config.gridDim, b = config.blockDim;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  finish_late_copy();
  if (!device().error.empty()) return cudaErrorLaunchFailure;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (b.x == 0 || b.y == 0 || b.z == 0 || b.z > 64 || uint64_t{b.x} * b.y * b.z > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  const auto allowed = device().shared_allowed.find(kernel);
  if (config.dynamicSmemBytes > (allowed == device().shared_allowed.end() ? kSharedByDefault : allowed->second))
    return cudaErrorInvalidValue;
  const bool early = std::any_of(config.attrs, config.attrs + config.numAttrs, [](const cudaLaunchAttribute& a) {
    return a.id == cudaLaunchAttributeProgrammaticStreamSerialization && a.val.programmaticStreamSerializationAllowed;
  });
  unsigned cluster = 1;
  for (const cudaLaunchAttribute* a = config.attrs; a != config.attrs + config.numAttrs; ++a) {
    if (a->id != cudaLaunchAttributeClusterDimension) continue;
    cluster = a->val.clusterDim.x;
    if (machine().compute_capability_major < 9 || a->val.clusterDim.y != 1 || a->val.clusterDim.z != 1 || cluster < 1 ||
        cluster > race::kMostInCluster || g.x % cluster != 0)
      return cudaErrorInvalidConfiguration;
  }
  race::set_device_memory([](const void* address) { return device().holds(address, 1); });
  return put(config.stream,
             [g, b, shared = config.dynamicSmemBytes, cluster = static_cast<int>(cluster), early, thread] {
               if (!device().error.empty()) return cudaErrorLaunchFailure;
               try {
                 const Access access;
                 run_grid({g.x, g.y, g.z}, {b.x, b.y, b.z}, shared, cluster, early, thread);
               } catch (const KernelError& error) {
                 device().error = error.what();
                 return cudaErrorLaunchFailure;
               }
               return cudaSuccess;
             });
}

void prefetch_to_l2(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0 || bytes % 16 != 0)
    fail("prefetch_to_l2: the address or the number of bytes is no multiple of 16");
  if (!device().holds(address, bytes)) fail("prefetch_to_l2: the bytes do not lie in one allocation");
}

Machine& machine() {
  static Machine instance;
  return instance;
}

int waits() {
  return device().waits;
}

void revive_device() {
  device().error.clear();
}

}  // namespace mor::cuda_host

using namespace mor::cuda_host;

namespace {

/// What cudaGetLastError returns and forgets.
cudaError_t& last_error() {
  static thread_local cudaError_t error = cudaSuccess;
  return error;
}

cudaError_t remembered(cudaError_t error) {
  return last_error() = error;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorDevicesUnavailable:
      return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorLaunchFailure:
      return device().error.c_str();
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
  }
  return "unknown error";
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine().driver_version;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (machine().driver_version < CUDART_VERSION) return cudaErrorInsufficientDriver;
  if (machine().gpus == 0) return cudaErrorNoDevice;
  *count = machine().gpus;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int index) {
  if (machine().refuses_contexts) return remembered(cudaErrorDevicesUnavailable);
  return index >= 0 && index < machine().gpus ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= machine().gpus) return cudaErrorInvalidDevice;
  if (!machine().describes_gpus) return remembered(cudaErrorInvalidValue);
  *properties = {};
  std::strcpy(properties->name, "host run");
  properties->totalGlobalMem = machine().memory_bytes;
  properties->major = machine().compute_capability_major;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  if (index < 0 || index >= machine().gpus) return cudaErrorInvalidDevice;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = machine().multiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = machine().compute_capability_major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedAtMost);
      return cudaSuccess;
  }
  return cudaErrorInvalidValue;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = machine().memory_bytes;
  *free = *total - std::min(*total, device().used);
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (const cudaError_t status = refuse_while_capturing(); status != cudaSuccess) return status;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  if (bytes > machine().memory_bytes - std::min(machine().memory_bytes, device().used))
    return cudaErrorMemoryAllocation;
  void* data = nullptr;
  if (posix_memalign(&data, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(data, 0xff, bytes);  // NaN, which shows up in the result of a kernel that reads memory before writing it
  device().allocations[static_cast<char*>(data)] = bytes;
  device().used += bytes;
  __asan_poison_memory_region(data, bytes);
  *pointer = data;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (const cudaError_t status = refuse_while_capturing(); status != cudaSuccess) return status;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  const auto found = device().allocations.find(static_cast<char*>(pointer));
  if (found == device().allocations.end()) return cudaErrorInvalidValue;
  __asan_unpoison_memory_region(pointer, found->second);
  device().used -= found->second;
  device().allocations.erase(found);
  std::free(pointer);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (const cudaError_t status = refuse_while_capturing(); status != cudaSuccess) return status;
  *pointer = std::calloc(1, bytes);
  if (*pointer == nullptr) return cudaErrorMemoryAllocation;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  device().pinned[static_cast<char*>(*pointer)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  if (const cudaError_t status = refuse_while_capturing(); status != cudaSuccess) return status;
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  const cudaError_t status = wait_for_copies(device().copies);
  device().pinned.erase(static_cast<char*>(pointer));
  std::free(pointer);
  return status;
}
cudaError_t cudaHostGetDevicePointer(void** to, void* host, unsigned) {
  *to = host;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  if (capturing(stream) && kind != cudaMemcpyDeviceToDevice) {
    const void* host = kind == cudaMemcpyHostToDevice ? from : to;
    if (!device().holds(device().pinned, host, bytes)) return refuse_in_capture(stream);
  }
  finish_late_copy();
  const auto copy = [=] {
    const Access access;
    std::memcpy(to, from, bytes);
  };
  return put(stream, [=] {
    const std::lock_guard<std::recursive_mutex> lock(device().mutex);
    if (!device().error.empty()) return cudaErrorLaunchFailure;
    if (bytes == 0) return cudaSuccess;
    if (device().holds(to, bytes) != (kind != cudaMemcpyDeviceToHost)) return cudaErrorInvalidValue;
    if (device().holds(from, bytes) != (kind != cudaMemcpyHostToDevice)) return cudaErrorInvalidValue;
    if (kind == cudaMemcpyDeviceToDevice) {
      copy();
      return cudaSuccess;
    }
    const bool to_device = kind == cudaMemcpyHostToDevice;
    if (to_device && device().holds(device().pinned, from, bytes)) {
      const auto* source = static_cast<const char*>(from);
      device().readings.push_back({source, {source, bytes}, ++device().copies});
    } else if (const cudaError_t status = wait_for_copies(device().copies); status != cudaSuccess) {
      return status;
    }
    if (machine().reads_host_memory && to_device)
      device().late_copy = copy;
    else
      copy();
    return cudaSuccess;
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  finish_late_copy();
  return put(stream, [=] {
    if (!device().error.empty()) return cudaErrorLaunchFailure;
    if (bytes == 0) return cudaSuccess;
    const Access access;
    if (!device().holds(to, bytes)) return cudaErrorInvalidValue;
    std::memset(to, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new cudaEventOnHost;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  const std::lock_guard<std::recursive_mutex> lock(device().mutex);
  if (!device().error.empty()) return cudaErrorLaunchFailure;
  event->time = std::chrono::steady_clock::now();
  event->copies = device().copies;
  event->recorded = true;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event->recorded ? wait_for_copies(event->copies) : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  if (machine().never_ready) return cudaErrorNotReady;
  return device().error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return device().error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (capturing(stream)) return refuse_in_capture(stream);
  finish_late_copy();
  return wait_for_copies(device().copies);
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error(), cudaSuccess);
}
