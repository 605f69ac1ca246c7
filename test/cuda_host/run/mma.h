// mma.sync on the host.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

/// d += a b for one warp: a [16,16] and b [16,8] in bf16, d [16,8] in float, distributed over the lanes as in PTX
/// (cuda/tile/mma.cuh). All lanes must call it. Every element is summed over rising depth.
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

}  // namespace mor::cuda_host
