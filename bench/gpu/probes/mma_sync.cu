// The peak of mma.sync: independent products of operands that stay in registers.
#include <cuda_bf16.h>

#include "bench/gpu/probes/probes.h"
#include "cuda/tile/mma.cuh"

namespace mor::bench {

namespace {

constexpr int kRows = 16, kColumns = 8, kDepth = 16;
constexpr int kSums = 8;  ///< products of a warp that do not wait for one another
constexpr int kSteps = 4096;
constexpr double kFlops = 2.0 * kRows * kColumns * kDepth;

/// Small integers, so that sums are exact.
__host__ __device__ int left_at(int row, int k) {
  return (row * 5 + k * 3) % 7 - 3;
}
__host__ __device__ int right_at(int k, int column) {
  return (k * 2 + column * 5) % 7 - 3;
}

__device__ uint32_t pair_of(int first, int second) {
  const __nv_bfloat162 pair(__float2bfloat16(static_cast<float>(first)), __float2bfloat16(static_cast<float>(second)));
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

/// out [warps, kRows, kColumns] = for every warp kSums sums of `steps` products of the same factors, added up. Sum i
/// begins at i, because the compiler would make one of equal sums.
__global__ void mma_kernel(int steps, float* out) {
  const int lane = static_cast<int>(threadIdx.x % 32), group = lane / 4, pair = 2 * (lane % 4);
  const uint32_t a[4] = {pair_of(left_at(group, pair), left_at(group, pair + 1)),
                         pair_of(left_at(group + 8, pair), left_at(group + 8, pair + 1)),
                         pair_of(left_at(group, pair + 8), left_at(group, pair + 9)),
                         pair_of(left_at(group + 8, pair + 8), left_at(group + 8, pair + 9))};
  const uint32_t b[2] = {pair_of(right_at(pair, group), right_at(pair + 1, group)),
                         pair_of(right_at(pair + 8, group), right_at(pair + 9, group))};
  float sums[kSums][4];
  for (int i = 0; i < kSums; ++i)
    for (float& sum : sums[i]) sum = static_cast<float>(i);
  for (int step = 0; step < steps; ++step)
#pragma unroll
    for (int i = 0; i < kSums; ++i) cuda::mma_16x8x16(sums[i], a, b);
  const int warp = static_cast<int>((blockIdx.x * blockDim.x + threadIdx.x) / 32);
  float* to = out + static_cast<size_t>(warp) * kRows * kColumns;
  for (int j = 0; j < 4; ++j) {
    float total = 0;
    for (int i = 0; i < kSums; ++i) total += sums[i][j];
    to[(group + j / 2 * 8) * kColumns + pair + j % 2] = total;
  }
}

void check_product(const std::vector<float>& found, int times) {
  for (size_t i = 0; i < found.size(); ++i) {
    const int row = static_cast<int>(i) / kColumns % kRows, column = static_cast<int>(i) % kColumns;
    int product = 0;
    for (int k = 0; k < kDepth; ++k) product += left_at(row, k) * right_at(k, column);
    const int expected = product * times + kSums * (kSums - 1) / 2;
    MOR_CHECK(found[i] == static_cast<float>(expected), INTERNAL, "element (", row, ", ", column, ") of the sum of ",
              times, " products is ", found[i], " and not ", expected);
  }
}

}  // namespace

void probe_mma_sync(const GpuOptions& options) {
  const auto multiprocessors = static_cast<unsigned>(options.gpu().multiProcessorCount);
  Timer timer;
  for (const unsigned warps : {4u, 8u, 16u}) {
    const DeviceArray<float> out(size_t{multiprocessors} * warps * kRows * kColumns);
    const int check_steps = 3;
    mma_kernel<<<multiprocessors, 32 * warps>>>(check_steps, out.data());
    check_kernel("mma_kernel");
    check_product(out.values(), kSums * check_steps);
    const std::vector<double> seconds = timer.seconds(
        options.samples, [&] { mma_kernel<<<multiprocessors, 32 * warps, 0, timer.stream()>>>(kSteps, out.data()); });
    const double flops = kFlops * kSums * kSteps * warps * multiprocessors;
    print_figure(concat("mma_sync_", warps, "_warps"), rates(1e-12 * flops, seconds), "TFLOP/s",
                 "bf16, operands in registers, warps of a multiprocessor");
  }
}

}  // namespace mor::bench
