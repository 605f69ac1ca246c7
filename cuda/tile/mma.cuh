// Matrix products of one warp (mma.sync) and the loads of their factors (ldmatrix).
#pragma once

#include <cuda_runtime.h>

#include "cuda/tile/async_copy.cuh"
#include "cuda/tile/bf16.cuh"

namespace mor::cuda {

/// d += a b for a [16,16] and b [16,8] in bf16, d [16,8] in float. With group = lane / 4 and pair = 2 (lane % 4), a
/// lane holds these pairs of neighbours:
///   a: rows group and group + 8 at columns pair and pair + 1, then both rows at columns pair + 8 and pair + 9;
///   b: rows pair and pair + 1, then pair + 8 and pair + 9, at column group;
///   d: row group at columns pair and pair + 1, then row group + 8.
__device__ __forceinline__ void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(MOR_CUDA_HOST)
  cuda_host::mma_16x8x16(d, a, b);
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/// Loads four 8x8 matrices of bf16 from shared memory. Lanes 8m .. 8m + 7 give the addresses of the rows of matrix m
/// (16 bytes each, at multiples of 16). to[m] gets row lane / 4 of matrix m at columns 2 (lane % 4) and the next;
/// transposed: of the matrix' transpose.
template <bool transposed = false>
__device__ __forceinline__ void load_matrix_x4(uint32_t (&to)[4], const void* row) {
#if defined(MOR_CUDA_HOST)
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) cuda_host::fail("ldmatrix: an address is no multiple of 16");
  const cuda_host::Meeting meeting(0xffffffffu, transposed ? "ldmatrix.trans" : "ldmatrix", row);
  const int group = cuda_host::lane() / 4, pair = 2 * (cuda_host::lane() % 4);
  for (int m = 0; m < 4; ++m) {
    const auto at = [&](int i, int j) {
      return static_cast<uint32_t>(static_cast<const bf16*>(meeting.from<const void*>(8 * m + i))[j].bits);
    };
    to[m] = transposed ? at(pair, group) | at(pair + 1, group) << 16 : at(group, pair) | at(group, pair + 1) << 16;
  }
#else
  const uint32_t address = shared_address(row);
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
#endif
}

}  // namespace mor::cuda
