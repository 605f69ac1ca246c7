// mma.sync on the host. Must not know of tiles or kernels.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

/// d += a b for one warp, all of whose lanes must come: a [16,16] and b [16,8] in bf16, d [16,8] in float, spread over
/// the lanes as PTX spreads them (cuda/tile/mma.cuh). Every element's sum runs over rising depth.
void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

}  // namespace mor::cuda_host
