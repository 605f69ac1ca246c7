// wgmma on the host.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

/// One product of a warpgroup: d [64, columns] += a [64,16] b [columns,16]^T, or =. a and b are the descriptors of
/// factors in shared memory; a is 0 if it is in registers.
struct Wgmma {
  int columns;
  uint64_t a, b;
  bool a_transposed, b_transposed, add;
};

// What they mean is said in cuda/tile/wgmma.cuh. Products are computed when their group is waited for, which is the
// latest moment that a GPU allows; until then d is NaN. Every element is summed over rising depth.
void wgmma_arrive();
void wgmma(const Wgmma& product, float* d, const uint32_t* a);
void wgmma_commit();
void wgmma_wait(unsigned pending);

}  // namespace mor::cuda_host
