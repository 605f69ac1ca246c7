// Tiles of bf16 that pass through shared memory from the threads that load them to those that multiply them.
#pragma once

#include "cuda/tile/async_copy.cuh"
#include "cuda/tile/matrix_tile.cuh"
#include "cuda/tile/mbarrier.cuh"

namespace mor::cuda {

/// [kRows, kColumns] in panels of 64 columns, whose rows take 128 bytes each: as a tensor copy with the swizzle of 128
/// bytes writes it, and as wgmma reads it.
template <int kRows, int kColumns>
struct alignas(1024) PanelTile {
  static constexpr int rows = kRows, columns = kColumns, panels = kColumns / 64, chunks = kColumns / 8;
  static_assert(kColumns % 64 == 0 && kRows % 8 == 0);
  bf16 panel[panels][kRows * 64];

  /// Eight neighbouring elements of a row.
  __device__ __forceinline__ bf16* chunk(int row, int index) {
    return MatrixTile<kRows, 64>{panel[index / 8]}.chunk(row, index % 8);
  }
};

/// `places` tiles with their barriers. The side that loads waits for `empty` and fills; the other one waits for `full`
/// and releases.
template <class Tile_, int places_>
struct TileRing {
  using Tile = Tile_;
  static constexpr int places = places_;
  Tile tile[places];
  Mbarrier full[places], empty[places];

  /// By one thread. fillers, releasers: how many arrivals fill a tile, and how many release it.
  __device__ __forceinline__ void init(int fillers, int releasers) {
    for (int i = 0; i < places; ++i) {
      mbarrier_init(full[i], fillers);
      mbarrier_init(empty[i], releasers);
    }
  }
};

/// The tile of a ring that one side is at.
template <int places>
struct RingPlace {
  int index = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++index < places) return;
    index = 0;
    parity ^= 1;
  }
};

/// cluster: how many blocks release the tile, because each fills a part of it.
template <int cluster = 1, class Ring>
__device__ __forceinline__ void wait_empty(Ring& ring, const RingPlace<Ring::places>& place) {
  mbarrier_wait<(cluster > 1)>(ring.empty[place.index], place.parity ^ 1);  // at once in the first round
}
template <class Ring>
__device__ __forceinline__ void wait_full(Ring& ring, const RingPlace<Ring::places>& place) {
  mbarrier_wait(ring.full[place.index], place.parity);
}
/// All lanes of a warp call it when they need the tile no more; it is one arrival in each of `cluster` blocks.
template <int cluster = 1, class Ring>
__device__ __forceinline__ void release(Ring& ring, const RingPlace<Ring::places>& place) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
  if (lane >= cluster) return;
  if constexpr (cluster == 1)
    mbarrier_arrive(ring.empty[place.index]);
  else
    mbarrier_arrive_in_block(ring.empty[place.index], lane);
}

}  // namespace mor::cuda
