// TMA: copies of boxes of a tensor from global to shared memory that one thread begins and an mbarrier completes.
#pragma once

#include <cuda.h>

#include "cuda/tile/mbarrier.cuh"

namespace mor::cuda {

/// What a tensor and its boxes are (cuda/tensor_map.h makes it). A kernel takes it as
/// `const __grid_constant__ TensorMap`.
using TensorMap = CUtensorMap;

/// Loads the map itself, so that the first copy need not wait for it.
__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
#if defined(MOR_CUDA_HOST)
  (void)map;
#else
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

/// Begins to copy the box that starts at this column and row, by one thread. Elements beyond the tensor become zeros,
/// and count as bytes. to: at a multiple of 1024 bytes. The box's rows take 128 bytes each, and the 16 bytes with index
/// c of row r lie at index c ^ (r % 8).
__device__ __forceinline__ void tensor_copy_load(void* to, const TensorMap& map, int column, int row,
                                                 Mbarrier& barrier) {
#if defined(MOR_CUDA_HOST)
  const int at[] = {column, row};
  cuda_host::tensor_copy_load(to, &map, at, 2, &barrier.word);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
      : "memory");
#endif
}

/// Likewise from a map of three dimensions. The box's rows follow each other, those with the least `slice` first.
__device__ __forceinline__ void tensor_copy_load(void* to, const TensorMap& map, int column, int row, int slice,
                                                 Mbarrier& barrier) {
#if defined(MOR_CUDA_HOST)
  const int at[] = {column, row, slice};
  cuda_host::tensor_copy_load(to, &map, at, 3, &barrier.word);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(slice), "r"(shared_address(&barrier))
      : "memory");
#endif
}

/// The same two for every block of the cluster whose rank is a bit of `blocks`: the box is read once, and comes to the
/// same place `to` in the shared memory of each, where it completes the barrier in the same place as `barrier`. What is
/// said of mbarrier_arrive_in_block holds for those blocks.
__device__ __forceinline__ void tensor_copy_multicast(void* to, const TensorMap& map, int column, int row,
                                                      Mbarrier& barrier, uint16_t blocks) {
#if defined(MOR_CUDA_HOST)
  const int at[] = {column, row};
  cuda_host::tensor_copy_multicast(to, &map, at, 2, &barrier.word, blocks);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier)), "h"(blocks)
      : "memory");
#endif
}
__device__ __forceinline__ void tensor_copy_multicast(void* to, const TensorMap& map, int column, int row, int slice,
                                                      Mbarrier& barrier, uint16_t blocks) {
#if defined(MOR_CUDA_HOST)
  const int at[] = {column, row, slice};
  cuda_host::tensor_copy_multicast(to, &map, at, 3, &barrier.word, blocks);
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
      "l"(&map), "r"(column), "r"(row), "r"(slice), "r"(shared_address(&barrier)), "h"(blocks)
      : "memory");
#endif
}

/// Copies and products that a later barrier orders behind this see what the thread has written to shared memory by
/// ordinary stores or cp.async. Without it they may see what was there before.
__device__ __forceinline__ void fence_async_proxy() {
#if defined(MOR_CUDA_HOST)
  cuda_host::fence_async_proxy();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

}  // namespace mor::cuda
