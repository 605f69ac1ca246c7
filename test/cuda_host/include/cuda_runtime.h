// <cuda_runtime.h> of the host run: the part of the CUDA language and of the runtime API that cuda/ uses, with CUDA's
// names and meanings.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "test/cuda_host/run/block.h"
#include "test/cuda_host/run/cluster.h"
#include "test/cuda_host/run/mbarrier.h"
#include "test/cuda_host/run/mma.h"
#include "test/cuda_host/run/race.h"
#include "test/cuda_host/run/tensor_copy.h"
#include "test/cuda_host/run/warpgroup.h"
#include "test/cuda_host/run/wgmma.h"

// ---- language
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

/// The indices of the running thread; they are set whenever a fiber is resumed.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---- synchronisation
inline void __syncthreads() {
  mor::cuda_host::barrier_sync(0, mor::cuda_host::block_threads(), "__syncthreads");
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  mor::cuda_host::warp_sync(mask);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

// ---- warp shuffles, votes and reductions
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const mor::cuda_host::Meeting meeting(mask, "__shfl_sync", value);
  const int first = mor::cuda_host::lane() & ~(width - 1);
  return meeting.from<T>(first + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  const mor::cuda_host::Meeting meeting(mask, "__shfl_xor_sync", value);
  const int lane = mor::cuda_host::lane(), other = lane ^ lane_mask;
  return meeting.from<T>(other < (lane & ~(width - 1)) + width ? other : lane);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const mor::cuda_host::Meeting meeting(mask, "__shfl_down_sync", value);
  const int lane = mor::cuda_host::lane(), other = lane + static_cast<int>(delta);
  return meeting.from<T>(other < (lane & ~(width - 1)) + width ? other : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const mor::cuda_host::Meeting meeting(mask, "__shfl_up_sync", value);
  const int lane = mor::cuda_host::lane(), other = lane - static_cast<int>(delta);
  return meeting.from<T>(other >= (lane & ~(width - 1)) ? other : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const mor::cuda_host::Meeting meeting(mask, "__ballot_sync", predicate);
  unsigned votes = 0;
  for (int l = 0; l < 32; ++l)
    if ((mask >> l & 1) != 0 && meeting.from<int>(l) != 0) votes |= 1u << l;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  const mor::cuda_host::Meeting meeting(mask, "__reduce_add_sync", value);
  unsigned sum = 0;
  for (int l = 0; l < 32; ++l)
    if ((mask >> l & 1) != 0) sum += meeting.from<unsigned>(l);
  return sum;
}

// ---- atomics: one thread runs at a time. There are none of floats, whose sums would depend on the order.
namespace mor::cuda_host {
/// *address = next(*address); returns the value before. It is not instrumented, but reports one atomic access.
template <class T, class Next>
__attribute__((no_sanitize("thread"), noinline)) T atomic(T* address, Next next) {
  static_assert(std::is_integral_v<T>);
  race::access(address, sizeof(T), race::Kind::atomic);
  const T before = *address;
  *address = next(before);
  return before;
}
}  // namespace mor::cuda_host
template <class T>
T atomicAdd(T* address, T value) {
  return mor::cuda_host::atomic(address, [=](T before) { return static_cast<T>(before + value); });
}
template <class T>
T atomicMax(T* address, T value) {
  return mor::cuda_host::atomic(address, [=](T before) { return before < value ? value : before; });
}
template <class T>
T atomicMin(T* address, T value) {
  return mor::cuda_host::atomic(address, [=](T before) { return value < before ? value : before; });
}
template <class T>
T atomicCAS(T* address, T compare, T value) {
  return mor::cuda_host::atomic(address, [=](T before) { return before == compare ? value : before; });
}

// ---- small functions
using std::max;
using std::min;
template <class T>
void __stwb(T* address, T value) {
  mor::cuda_host::require_global(address, "__stwb");
  *address = value;
}
inline unsigned __float_as_uint(float x) {
  unsigned u;
  std::memcpy(&u, &x, 4);
  return u;
}
inline float __uint_as_float(unsigned u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
namespace mor::cuda_host {
/// For an instruction that is not exact: a result that errs by the most that it may (as a share of the result), upwards
/// or downwards as the last bit happens to be. Results below the smallest normal number become 0.
inline float approximate(float exact, float most) {
  if (std::fabs(exact) < 0x1p-126f) return 0;
  return exact * ((__float_as_uint(exact) & 1) != 0 ? 1 + most : 1 - most);
}
}  // namespace mor::cuda_host
[[noreturn]] inline void __trap() {
  mor::cuda_host::fail("__trap");
}

// ---- runtime API
#define CUDART_VERSION 13000
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorDevicesUnavailable = 46,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
};
/// The text of cudaErrorLaunchFailure says what the kernel did wrong.
const char* cudaGetErrorString(cudaError_t error);

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaHostAllocDefault = 0, cudaHostAllocMapped = 2;
constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;

struct cudaStreamOnHost;
using cudaStream_t = cudaStreamOnHost*;

enum cudaLaunchAttributeID {
  cudaLaunchAttributeClusterDimension = 4,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6,
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  union {
    int programmaticStreamSerializationAllowed;
    struct {
      unsigned x, y, z;
    } clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};
struct cudaFuncAttributes {
  int ptxVersion;
};

cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1,
};
constexpr unsigned long long cudaEnableDefault = 0;
/// Knows cuTensorMapEncodeTiled.
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags, cudaDriverEntryPointQueryResult* found);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* pointer);
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags);
/// Pinned memory that a copy to the device reads must not change before the host has waited for the copy: the next wait
/// fails otherwise.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);

/// A time of the host's clock, and the copies before it.
struct cudaEventOnHost;
using cudaEvent_t = cudaEventOnHost*;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaGetLastError();

/// While a stream is captured, a call that is put into it does not run but becomes a node of a graph, with its
/// arguments. To wait for the stream, to copy from or to pageable host memory, and to take or free memory on the
/// capturing thread are errors that spoil the capture.
struct cudaGraphOnHost;
struct cudaGraphExecOnHost;
using cudaGraph_t = cudaGraphOnHost*;
using cudaGraphExec_t = cudaGraphExecOnHost*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaStreamCaptureStatus { cudaStreamCaptureStatusNone, cudaStreamCaptureStatusActive };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags = 0);
/// Takes device memory for the graph.
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);

namespace mor::cuda_host {
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& thread);
cudaError_t allow_shared_memory(const void* kernel, int bytes);
void prefetch_to_l2(const void* address, size_t bytes);

/// The machine that the runtime reports; tests change it.
struct Machine {
  int driver_version = CUDART_VERSION;  ///< 0: no driver
  int gpus = 1;
  int compute_capability_major = 9;
  int multiprocessors = 6;  ///< so few that small products reach every class of tiles (cuda/tuning.h)
  size_t memory_bytes = size_t{4} << 30;
  bool refuses_contexts = false;   ///< as of a GPU that another process has for itself
  bool describes_gpus = true;      ///< whether cudaGetDeviceProperties succeeds
  bool never_ready = false;        ///< whether no event comes, as behind work that waits for ever
  bool reads_host_memory = false;  ///< as on Grace Hopper: a copy to the device may read its source after the call
};
Machine& machine();
/// For tests: how often the host has waited for a stream, in copies from or to pageable memory too.
int waits();
/// For tests: makes a lost device usable again.
void revive_device();
}  // namespace mor::cuda_host

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return mor::cuda_host::allow_shared_memory(reinterpret_cast<const void*>(kernel), value);
}
/// As if kernels were compiled for the machine's compute capability.
template <class... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*)(Parameters...)) {
  attributes->ptxVersion = 10 * mor::cuda_host::machine().compute_capability_major;
  return cudaSuccess;
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return mor::cuda_host::launch(*config, reinterpret_cast<const void*>(kernel),
                                [kernel, copied = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] {
                                  std::apply(kernel, copied);
                                });
}
template <class... Parameters>
cudaError_t cudaFuncGetName(const char** name, void (*)(Parameters...)) {
  *name = "kernel";
  return cudaSuccess;
}
