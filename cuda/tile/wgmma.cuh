// wgmma: matrix products of a warpgroup, which read their factors from shared memory while the threads go on.
#pragma once

#include "cuda/tile/bf16.cuh"
#include "cuda/tile/tensor_copy.cuh"
#include "cuda/tile/warpgroup.cuh"

namespace mor::cuda {

/// A factor in shared memory, which consists of panels of 128-byte rows, as tensor_copy_load writes boxes.
struct WgmmaTile {
  uint64_t descriptor;
  bool transposed;
  int panel_bytes;

  /// The same rows `depth` further along the depth; a multiple of 16.
  __device__ __forceinline__ WgmmaTile advance(int depth) const {
    const int bytes = transposed ? depth * 128 : depth / 64 * panel_bytes + depth % 64 * 2;
    return {descriptor + static_cast<uint64_t>(bytes >> 4), transposed, panel_bytes};
  }
};

/// The first 16 of the depth of a factor at a multiple of 1024 bytes. Its panels are [rows, 64 of the depth], one for
/// every 64 of the depth, or, transposed, [depth, 64 rows], one for every 64 rows. panel_bytes: from one panel to the
/// next; it does not matter if there is only one.
template <bool transposed = false>
__device__ __forceinline__ WgmmaTile wgmma_tile(const void* shared, int panel_bytes = 0) {
  // Address, distance of panels (transposed), distance of groups of 8 panel rows, each in units of 16 bytes; the mode
  // of 128-byte swizzle.
  constexpr uint64_t kGroup = uint64_t{1024 >> 4} << 32, kSwizzle = uint64_t{1} << 62;
  const uint64_t panel = transposed ? static_cast<uint64_t>(panel_bytes >> 4) << 16 : uint64_t{1} << 16;
#if defined(MOR_CUDA_HOST)
  const uint64_t address = cuda_host::shared_address(shared);
#else
  const uint64_t address = shared_address(shared);
#endif
  return {(address & 0x3ffff) >> 4 | panel | kGroup | kSwizzle, transposed, panel_bytes};
}

/// Products that follow see what the threads have written to their registers. All threads of the warpgroup call it, as
/// they do everything here, before the first product of each group.
__device__ __forceinline__ void wgmma_arrive() {
#if defined(MOR_CUDA_HOST)
  cuda_host::wgmma_arrive();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/// Makes one group of the products since the last call.
__device__ __forceinline__ void wgmma_commit() {
#if defined(MOR_CUDA_HOST)
  cuda_host::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/// Waits until at most the `pending` youngest groups are unfinished. Until then the sums of a product must be neither
/// read nor written, and its factors not written. Reading the sums behind it needs wgmma_hold.
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
#if defined(MOR_CUDA_HOST)
  cuda_host::wgmma_wait(pending);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#endif
}

/// Keeps the compiler from moving reads and writes of these sums across this place.
template <int n>
__device__ __forceinline__ void wgmma_hold(float (&d)[n]) {
#if defined(MOR_CUDA_HOST)
  (void)d;
#else
#pragma unroll
  for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

#if !defined(MOR_CUDA_HOST)

// The operands of wgmma with 32, 48, 64, 96 and 128 sums in a thread, and its text.
#define MOR_SUMS8(i)                                                                                    \
  "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3]), "+f"(d[(i) + 4]), "+f"(d[(i) + 5]), \
      "+f"(d[(i) + 6]), "+f"(d[(i) + 7])
#define MOR_SUMS16(i) MOR_SUMS8(i), MOR_SUMS8((i) + 8)
#define MOR_SUMS32(i) MOR_SUMS16(i), MOR_SUMS16((i) + 16)
#define MOR_SUMS64(i) MOR_SUMS32(i), MOR_SUMS32((i) + 32)
#define MOR_PLACES_0_32                                                  \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MOR_PLACES_32_48 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define MOR_PLACES_48_64 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MOR_PLACES_64_96                                                             \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MOR_PLACES_96_128                                                                        \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define MOR_PLACES32 MOR_PLACES_0_32
#define MOR_PLACES48 MOR_PLACES_0_32 MOR_PLACES_32_48
#define MOR_PLACES64 MOR_PLACES48 MOR_PLACES_48_64
#define MOR_PLACES96 MOR_PLACES64 MOR_PLACES_64_96
#define MOR_PLACES128 MOR_PLACES96 MOR_PLACES_96_128
#define MOR_OPERANDS32 MOR_SUMS32(0)
#define MOR_OPERANDS48 MOR_SUMS32(0), MOR_SUMS16(32)
#define MOR_OPERANDS64 MOR_SUMS64(0)
#define MOR_OPERANDS96 MOR_SUMS64(0), MOR_SUMS32(64)
#define MOR_OPERANDS128 MOR_SUMS64(0), MOR_SUMS64(64)
/// left, right, …: the numbers of the operands behind the sums.
#define MOR_WGMMA_SHARED(columns, sums, left, right, add_, a_, b_)                                \
  asm volatile(                                                                                   \
      "{ .reg .pred add;\n"                                                                       \
      "setp.ne.b32 add, %" #add_                                                                  \
      ", 0;\n"                                                                                    \
      "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" MOR_PLACES##sums         \
      "}, %" #left ", %" #right ", add, 1, 1, %" #a_ ", %" #b_ "; }"                              \
      : MOR_OPERANDS##sums                                                                        \
      : "l"(a.descriptor), "l"(b.descriptor), "r"(static_cast<int>(add)), "n"(int{a_transposed}), \
        "n"(int{b_transposed}))
#define MOR_WGMMA_REGISTERS(columns, sums, a0, a1, a2, a3, right, add_, b_)                        \
  asm volatile(                                                                                    \
      "{ .reg .pred add;\n"                                                                        \
      "setp.ne.b32 add, %" #add_                                                                   \
      ", 0;\n"                                                                                     \
      "wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32.bf16.bf16 {" MOR_PLACES##sums          \
      "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #right ", add, 1, 1, %" #b_ "; }"           \
      : MOR_OPERANDS##sums                                                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.descriptor), "r"(static_cast<int>(add)), \
        "n"(int{b_transposed}))

#endif

template <int columns>
constexpr bool kWgmmaColumns = columns == 64 || columns == 96 || columns == 128 || columns == 192 || columns == 256;

/// Begins d += a b^T, or d = a b^T if `add` is false, for a [64,16] and b [columns,16] in bf16 and d [64, columns] in
/// float. With group = lane / 4 and pair = 2 (lane % 4), a thread of warp w of the warpgroup holds of d the rows
/// 16 w + group and 8 further: elements 4 j and 4 j + 1 are the first row at columns 8 j + pair and + 1, elements
/// 4 j + 2 and 4 j + 3 the second row at the same columns.
template <int columns, bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma(float (&d)[columns / 2], const WgmmaTile& a, const WgmmaTile& b,
                                      bool add = true) {
  static_assert(kWgmmaColumns<columns>);
#if defined(MOR_CUDA_HOST)
  if (a.transposed != a_transposed || b.transposed != b_transposed)
    cuda_host::fail("wgmma: a tile is transposed and the product is not, or the other way round");
  cuda_host::wgmma({columns, a.descriptor, b.descriptor, a_transposed, b_transposed, add}, d, nullptr);
#else
  if constexpr (columns == 64) MOR_WGMMA_SHARED(64, 32, 32, 33, 34, 35, 36);
  if constexpr (columns == 96) MOR_WGMMA_SHARED(96, 48, 48, 49, 50, 51, 52);
  if constexpr (columns == 128) MOR_WGMMA_SHARED(128, 64, 64, 65, 66, 67, 68);
  if constexpr (columns == 192) MOR_WGMMA_SHARED(192, 96, 96, 97, 98, 99, 100);
  if constexpr (columns == 256) MOR_WGMMA_SHARED(256, 128, 128, 129, 130, 131, 132);
#endif
}

/// The same with a in registers, where its elements lie as those of mma_16x8x16 do, 16 rows in each warp.
template <int columns, bool b_transposed>
__device__ __forceinline__ void wgmma(float (&d)[columns / 2], const uint32_t (&a)[4], const WgmmaTile& b,
                                      bool add = true) {
  static_assert(kWgmmaColumns<columns>);
#if defined(MOR_CUDA_HOST)
  if (b.transposed != b_transposed)
    cuda_host::fail("wgmma: a tile is transposed and the product is not, or the other way round");
  cuda_host::wgmma({columns, 0, b.descriptor, false, b_transposed, add}, d, a);
#else
  if constexpr (columns == 64) MOR_WGMMA_REGISTERS(64, 32, 32, 33, 34, 35, 36, 37, 38);
  if constexpr (columns == 96) MOR_WGMMA_REGISTERS(96, 48, 48, 49, 50, 51, 52, 53, 54);
  if constexpr (columns == 128) MOR_WGMMA_REGISTERS(128, 64, 64, 65, 66, 67, 68, 69, 70);
  if constexpr (columns == 192) MOR_WGMMA_REGISTERS(192, 96, 96, 97, 98, 99, 100, 101, 102);
  if constexpr (columns == 256) MOR_WGMMA_REGISTERS(256, 128, 128, 129, 130, 131, 132, 133, 134);
#endif
}

#if !defined(MOR_CUDA_HOST)
#undef MOR_SUMS8
#undef MOR_SUMS16
#undef MOR_SUMS32
#undef MOR_SUMS64
#undef MOR_PLACES_0_32
#undef MOR_PLACES_32_48
#undef MOR_PLACES_48_64
#undef MOR_PLACES_64_96
#undef MOR_PLACES_96_128
#undef MOR_PLACES32
#undef MOR_PLACES48
#undef MOR_PLACES64
#undef MOR_PLACES96
#undef MOR_PLACES128
#undef MOR_OPERANDS32
#undef MOR_OPERANDS48
#undef MOR_OPERANDS64
#undef MOR_OPERANDS96
#undef MOR_OPERANDS128
#undef MOR_WGMMA_SHARED
#undef MOR_WGMMA_REGISTERS
#endif

}  // namespace mor::cuda
