// tune --device cuda:N --samples S --first I: the times of all tiles, as lines for bench/gpu/findings.ts.
#include "bench/gpu/tune/tune.h"

namespace mor::bench {

namespace {

constexpr int kThreads = 256, kBlocks = 1024;

__device__ uint32_t hash(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}

/// The sum of four uniform numbers of 16 bits, scaled to a standard deviation of 1.
__global__ void fill_kernel(bf16* to, size_t count, uint32_t seed) {
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < count; i += size_t{kBlocks} * kThreads) {
    const uint32_t a = hash(static_cast<uint32_t>(i) * 2 + seed), b = hash(static_cast<uint32_t>(i) * 2 + 1 + seed);
    const uint32_t sum = (a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16);
    to[i] = cuda::from_float<bf16>((static_cast<float>(sum) / 65535.0f - 2.0f) * 1.7320508f);
  }
}

/// The bits of floats that are not negative are in their order.
__global__ void difference_kernel(const bf16* a, const bf16* b, size_t count, unsigned* most) {
  float largest = 0;
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < count; i += size_t{kBlocks} * kThreads) {
    const float x = cuda::to_float(a[i]), y = cuda::to_float(b[i]);
    const float difference = fabsf(x - y) / (1 + fabsf(y));
    largest = difference <= largest ? largest : isnan(difference) ? INFINITY : difference;
  }
  atomicMax(most, __float_as_uint(largest));
}

}  // namespace

void fill_random(cuda::Stream& stream, const DeviceArray<bf16>& to, uint32_t seed) {
  fill_kernel<<<kBlocks, kThreads, 0, stream.handle()>>>(to.data(), to.count(), seed);
  stream.check(cudaGetLastError(), "fill_kernel");
}

double largest_difference(cuda::Stream& stream, const DeviceArray<bf16>& a, const DeviceArray<bf16>& b) {
  const DeviceArray<unsigned> most(std::vector<unsigned>{0});
  difference_kernel<<<kBlocks, kThreads, 0, stream.handle()>>>(a.data(), b.data(), a.count(), most.data());
  stream.check(cudaGetLastError(), "difference_kernel");
  stream.synchronize();
  const unsigned bits = most.values().front();
  float value;
  memcpy(&value, &bits, sizeof value);
  return static_cast<double>(value);
}

}  // namespace mor::bench

int main(int argc, char** argv) try {
  using namespace mor::bench;
  const GpuOptions options(argc, argv);
  mor::cuda::Stream stream(options.device());
  NamedCases cases;
  add_products(options, stream, cases);
  add_attention(options, stream, cases);
  return run_cases(options, cases);
} catch (const std::exception& error) {
  std::fprintf(stderr, "tune: %s\n", error.what());
  return 1;
}
