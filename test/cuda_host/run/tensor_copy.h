// TMA on the host.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

/// Begins a copy of the box of the map at these indices, the columns first (cuda/tile/tensor_copy.cuh). It is done at
/// once or when no thread can go on without it; what was in its place is lost at once.
void tensor_copy_load(void* to, const void* map, const int* at, int dimensions, uint64_t* mbarrier);
/// The same for each block of the cluster whose rank is a bit of `blocks`, each in its own time.
void tensor_copy_multicast(void* to, const void* map, const int* at, int dimensions, uint64_t* mbarrier,
                           unsigned blocks);
void fence_async_proxy();

}  // namespace mor::cuda_host
