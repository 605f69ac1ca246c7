// Bandwidth: kernels that read, and copy, buffers larger than any cache.
#include "bench/gpu/probes/probes.h"

namespace mor::bench {

namespace {

constexpr size_t kBytes = size_t{2} << 30;
constexpr size_t kVectors = kBytes / sizeof(uint4);
constexpr int kThreads = 512;
constexpr int kInFlight = 4;  ///< loads of a thread that do not wait for one another

__host__ __device__ uint32_t value_at(uint64_t vector) {
  return static_cast<uint32_t>(vector * 2654435761u);
}

__global__ void fill_kernel(uint4* to) {
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < kVectors; i += size_t{gridDim.x} * kThreads) {
    const uint32_t v = value_at(i);
    to[i] = make_uint4(v, v + 1, v + 2, v + 3);
  }
}

__device__ uint32_t sum_of(const uint4& v) {
  return v.x + v.y + v.z + v.w;
}

/// sum += all 32-bit words, modulo 2^32.
__global__ void read_kernel(const uint4* from, unsigned* sum) {
  const size_t stride = size_t{gridDim.x} * kThreads;
  uint32_t total = 0;
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < kVectors; i += kInFlight * stride) {
    uint4 v[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) v[j] = i + j * stride < kVectors ? __ldcs(from + i + j * stride) : uint4{};
#pragma unroll
    for (int j = 0; j < kInFlight; ++j) total += sum_of(v[j]);
  }
  total = __reduce_add_sync(0xffffffffu, total);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, total);
}

__global__ void copy_kernel(const uint4* from, uint4* to) {
  const size_t stride = size_t{gridDim.x} * kThreads;
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < kVectors; i += kInFlight * stride) {
    uint4 v[kInFlight];
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (i + j * stride < kVectors) v[j] = __ldcs(from + i + j * stride);
#pragma unroll
    for (int j = 0; j < kInFlight; ++j)
      if (i + j * stride < kVectors) __stcs(to + i + j * stride, v[j]);
  }
}

}  // namespace

void probe_bandwidth(const GpuOptions& options) {
  const DeviceArray<uint4> from(kVectors), to(kVectors);
  const DeviceArray<unsigned> sum(std::vector<unsigned>{0, 0});
  const auto blocks = static_cast<unsigned>(4 * options.gpu().multiProcessorCount);
  fill_kernel<<<blocks, kThreads>>>(from.data());
  copy_kernel<<<blocks, kThreads>>>(from.data(), to.data());
  read_kernel<<<blocks, kThreads>>>(from.data(), sum.data());
  read_kernel<<<blocks, kThreads>>>(to.data(), sum.data() + 1);
  check_kernel("the bandwidth kernels");
  uint32_t expected = 0;
  for (size_t i = 0; i < kVectors; ++i) expected += 4 * value_at(i) + 6;
  for (const unsigned found : sum.values())
    MOR_CHECK(found == expected, INTERNAL, "the words that were read add up to ", found, " and not to ", expected);

  Timer timer;
  const std::vector<double> read = timer.seconds(
      options.samples, [&] { read_kernel<<<blocks, kThreads, 0, timer.stream()>>>(from.data(), sum.data()); });
  print_figure("read_bandwidth", rates(1e-9 * kBytes, read), "GB/s", "a kernel that adds up 2 GiB");
  const std::vector<double> copy = timer.seconds(
      options.samples, [&] { copy_kernel<<<blocks, kThreads, 0, timer.stream()>>>(from.data(), to.data()); });
  print_figure("copy_kernel_bandwidth", rates(2e-9 * kBytes, copy), "GB/s", "read and written, by a kernel");
  const std::vector<double> memcpy_seconds = timer.seconds(options.samples, [&] {
    check_cuda(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, timer.stream()),
               "cudaMemcpyAsync");
  });
  print_figure("memcpy_bandwidth", rates(2e-9 * kBytes, memcpy_seconds), "GB/s",
               "read and written, by cudaMemcpyAsync");
}

}  // namespace mor::bench
