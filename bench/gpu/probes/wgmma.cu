// The peak of wgmma: products of a warpgroup [64,16] x [16,256] whose factors stay in shared memory. The check also
// finds out which of the two offsets of a descriptor without swizzle leads along the depth.
#include <cuda_bf16.h>

#include "bench/gpu/probes/probes.h"

namespace mor::bench {

namespace {

constexpr int kRows = 64, kColumns = 256, kDepth = 16;
constexpr int kWarpgroup = 128;
constexpr int kTogether = 8;  ///< products between two waits
constexpr int kSteps = 1024;
constexpr double kFlops = 2.0 * kRows * kColumns * kDepth;
constexpr int kMostWarpgroups = 3;  ///< of a block; more would not have the registers

/// Matrices in shared memory consist of cores of 8 rows of 16 bytes. Two cores make a row of 16 elements.
constexpr int kCoreBytes = 128;

/// Small integers, so that sums are exact.
__host__ __device__ int left_at(int row, int k) {
  return (row * 5 + k * 3) % 7 - 3;
}
__host__ __device__ int right_at(int k, int column) {
  return (k * 2 + column * 5) % 7 - 3;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kCoreRows = 8, kCoreColumns = 8;
constexpr int kSums = kRows * kColumns / kWarpgroup;  ///< elements of the product that a thread holds

/// The place of element (row, k) of a factor whose depth lies along its rows, in elements.
__device__ int place_of(int row, int k) {
  const int core = row / kCoreRows * 2 + k / kCoreColumns;
  return (core * kCoreBytes) / 2 + row % kCoreRows * kCoreColumns + k % kCoreColumns;
}

/// Of a factor without swizzle. leading, stride: bytes between neighbouring cores along the two directions.
__device__ uint64_t descriptor_of(const void* shared, int leading, int stride) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(shared));
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(leading >> 4) << 16 |
         static_cast<uint64_t>(stride >> 4) << 32;
}

/// d += a b^T.
__device__ __forceinline__ void multiply(float (&d)[kSums], uint64_t a, uint64_t b) {
  asm volatile(
      "{ .reg .pred add;\n"
      "setp.ne.b32 add, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, add, 1, 1, 0, 0; }"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), "+f"(d[64]),
        "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]),
        "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), "+f"(d[80]),
        "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]),
        "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]),
        "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]),
        "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]), "+f"(d[112]),
        "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]), "+f"(d[120]),
        "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
      : "l"(a), "l"(b));
}

/// out [warpgroups, kRows, kColumns] = kTogether * steps products of the same factors.
__global__ void __launch_bounds__(kMostWarpgroups* kWarpgroup, 1)
    wgmma_kernel(int steps, int leading, int stride, float* out) {
  __shared__ alignas(128) __nv_bfloat16 left[kRows * kDepth], right[kColumns * kDepth];
  for (int i = static_cast<int>(threadIdx.x); i < kColumns * kDepth; i += static_cast<int>(blockDim.x)) {
    const int row = i / kDepth, k = i % kDepth;
    if (row < kRows) left[place_of(row, k)] = __float2bfloat16(static_cast<float>(left_at(row, k)));
    right[place_of(row, k)] = __float2bfloat16(static_cast<float>(right_at(k, row)));
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t a = descriptor_of(left, leading, stride), b = descriptor_of(right, leading, stride);
  float sums[kSums] = {};
  for (int step = 0; step < steps; ++step) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < kTogether; ++i) multiply(sums, a, b);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, lane = thread % 32;
  const int row = thread / 32 * 16 + lane / 4, column = 2 * (lane % 4);
  const size_t warpgroup = blockIdx.x * (blockDim.x / kWarpgroup) + threadIdx.x / kWarpgroup;
#pragma unroll
  for (int i = 0; i < kSums; ++i)
    out[(warpgroup * kRows + row + i / 2 % 2 * 8) * kColumns + i / 4 * 8 + column + i % 2] = sums[i];
}

#else

__global__ void wgmma_kernel(int, int, int, float*) {}

#endif

/// Whether the sums of `times` products are right.
bool is_product(const std::vector<float>& found, int times) {
  for (size_t i = 0; i < found.size(); ++i) {
    const int row = static_cast<int>(i) / kColumns % kRows, column = static_cast<int>(i) % kColumns;
    int product = 0;
    for (int k = 0; k < kDepth; ++k) product += left_at(row, k) * right_at(k, column);
    if (found[i] != static_cast<float>(product * times)) return false;
  }
  return true;
}

}  // namespace

void probe_wgmma(const GpuOptions& options) {
  MOR_CHECK(options.gpu().major == 9 && options.gpu().minor == 0, DEVICE_TOO_OLD,
            "wgmma needs compute capability 9.0, and this GPU has ", options.gpu().major, ".", options.gpu().minor);
  const auto multiprocessors = static_cast<unsigned>(options.gpu().multiProcessorCount);
  const DeviceArray<float> out(size_t{multiprocessors} * kMostWarpgroups * kRows * kColumns);
  const int check_steps = 2, along_depth = kCoreBytes, along_rows = 2 * kCoreBytes;
  const auto is_right = [&](int leading, int stride) {
    check_cuda(cudaMemset(out.data(), 0, out.count() * sizeof(float)), "cudaMemset");
    wgmma_kernel<<<multiprocessors, kMostWarpgroups * kWarpgroup>>>(check_steps, leading, stride, out.data());
    check_kernel("wgmma_kernel");
    return is_product(out.values(), kTogether * check_steps);
  };
  const bool leading_is_depth = is_right(along_depth, along_rows);
  MOR_CHECK(leading_is_depth || is_right(along_rows, along_depth), INTERNAL,
            "the product is wrong, whichever offset of the descriptor leads along the depth");
  print_fact("wgmma_leading_offset", leading_is_depth ? "\"along the depth\"" : "\"along the rows\"");
  const int leading = leading_is_depth ? along_depth : along_rows, stride = leading_is_depth ? along_rows : along_depth;
  Timer timer;
  for (const unsigned warpgroups : {1u, 2u, 3u}) {
    const std::vector<double> seconds = timer.seconds(options.samples, [&] {
      wgmma_kernel<<<multiprocessors, warpgroups * kWarpgroup, 0, timer.stream()>>>(kSteps, leading, stride,
                                                                                    out.data());
    });
    const double flops = kFlops * kTogether * kSteps * warpgroups * multiprocessors;
    print_figure(concat("wgmma_", warpgroups, "_warpgroups"), rates(1e-12 * flops, seconds), "TFLOP/s",
                 "bf16, 64 x 256 x 16, factors in shared memory, warpgroups of a multiprocessor");
  }
}

}  // namespace mor::bench
