// What the kernels of attention on Hopper share: how work is shared out, how tiles of keys are loaded, the turns of the
// warpgroups, and their products.
#pragma once

#include "cuda/ops/attention_mma.cuh"
#include "cuda/tensor_map.h"
#include "cuda/tile/tensor_copy.cuh"
#include "cuda/tile/tile_ring.cuh"
#include "cuda/tile/warpgroup.cuh"
#include "cuda/tile/wgmma.cuh"
#include "cuda/tuning.h"

namespace mor::cuda {

/// The map of a tensor [rows, heads, head dim] in boxes of so many heads of so many rows.
inline TensorMap heads_map(Stream& stream, const Tensor& tensor, int heads, int rows) {
  return tensor_map(stream, tensor.as<bf16>(), tensor.shape[2],
                    {{tensor.shape[1], tensor.shape[2], heads}, {tensor.shape[0], tensor.row_stride, rows}});
}

/// Whether tensor maps of all of these tensors can be made.
inline bool heads_mappable(std::initializer_list<const Tensor*> tensors) {
  for (const Tensor* tensor : tensors)
    if (tensor->rows() == 0 || tensor->row_stride % kVectorWidth<bf16> != 0) return false;
  return heads_aligned(tensors);
}

/// A piece of work: a tile of lanes of one sequence and one key head, which begins with the first lane of a row.
struct LanesWork {
  int s = 0, key_head = 0, first_row = 0;
  int lanes = 0;     ///< 0: there is no such tile
  int keys = 0;      ///< keys that the last of these lanes sees
  int all_keys = 0;  ///< keys that any row of the sequence sees

  LanesWork() = default;
  /// number: of a piece of work. Later tiles see more keys, so they come first. tiles: of a sequence.
  __device__ LanesWork(const Rows& rows, int key_heads, int group, int tiles, int rows_of_tile, int number) {
    const int part = number / (rows.key_lists * key_heads), list = number % (rows.key_lists * key_heads);
    s = list / key_heads;
    key_head = list % key_heads;
    const int begin = rows.start[s], end = rows.start[s + 1];
    first_row = begin + (tiles - 1 - part) * rows_of_tile;
    if (first_row >= end) return;
    const int last_row = min(first_row + rows_of_tile, end) - 1;
    lanes = (last_row + 1 - first_row) * group;
    keys = rows.visible[last_row];
    all_keys = rows.visible[end - 1];
  }
};

/// The number of the warpgroup in its block, by a shuffle, so that the compiler knows it to be that of a whole warp.
__device__ __forceinline__ int warpgroup_number() {
  return __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}

/// Runs body(number) for the block's part of `work` pieces of work. The longest ones have the least numbers, and every
/// other round of the grid falls, so that no block gets the longest piece each time.
template <class Body>
__device__ __forceinline__ void for_each_piece(int work, const Body& body) {
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  bool rising = true;
  for (int first = 0; first < work; first += blocks, rising = !rising) {
    const int number = first + (rising ? block : blocks - 1 - block);
    if (number < work) body(number);
  }
}

/// The first key of the last tile.
__device__ __forceinline__ int last_tile(int keys, int of_tile) {
  return keys == 0 ? -1 : (keys - 1) / of_tile * of_tile;
}

/// Fills a tile with keys (or values) first .. of a sequence, by all warps of the warpgroup that loads. A tile whose
/// keys lie in one run is one copy. Others are gathered row by row, with zeros from key `end` on: those slots may hold
/// NaN, which a weight of zero would not hide.
template <class Tile>
__device__ __forceinline__ void fill_keys(Tile& to, Mbarrier& full, const TensorMap& map, const Heads<const bf16>& from,
                                          const Rows& rows, int s, int key_head, int first, int end) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
  if (rows.block_size == 0 && first + Tile::rows <= end) {
    if (thread == 0) {
      mbarrier_expect_bytes(full, static_cast<int>(sizeof(Tile)));
#pragma unroll
      for (int p = 0; p < Tile::panels; ++p)
        tensor_copy_load(to.panel[p], map, 64 * p, key_head, rows.key_start[s] + first, full);
    } else if (thread % 32 == 0) {
      mbarrier_arrive(full);
    }
    return;
  }
  constexpr int kRowsAtOnce = kWarpgroup / Tile::chunks;
  const int chunk = thread % Tile::chunks;
#pragma unroll 1
  for (int row = thread / Tile::chunks; row < Tile::rows; row += kRowsAtOnce) {
    const int key = first + row, count = key < end ? chunk_count(chunk * 8, from.head_dim) : 0;
    const bf16* at = count == 0 ? from.data : from.at(key_slot(rows, s, key), key_head) + chunk * 8;
    copy_chunk<true>(to.chunk(row, chunk), at, count);
  }
  async_copy_commit();
  async_copy_wait<0>();
  fence_async_proxy();
  __syncwarp();
  if (thread % 32 == 0) mbarrier_arrive(full);
}

/// Fills tiles with the keys and the values that a piece of work sees, its last ones first, by all warps of the
/// warpgroup that loads. in: the operation, with its k, v and rows.
template <class Ring, class Operation>
__device__ __forceinline__ void load_keys_and_values(Ring& k, Ring& v, RingPlace<Ring::places>& place,
                                                     const TensorMap& k_map, const TensorMap& v_map,
                                                     const Operation& in, const LanesWork& work) {
  for (int first = last_tile(work.keys, Ring::Tile::rows); first >= 0; first -= Ring::Tile::rows) {
    wait_empty(k, place);
    fill_keys(k.tile[place.index], k.full[place.index], k_map, in.k, in.rows, work.s, work.key_head, first,
              work.all_keys);
    wait_empty(v, place);
    fill_keys(v.tile[place.index], v.full[place.index], v_map, in.v, in.rows, work.s, work.key_head, first,
              work.all_keys);
    place.advance();
  }
}

/// Begins to load a tile of queries, or of what has their shape, by one thread: boxes of the heads of a group.
template <class Tile>
__device__ __forceinline__ void copy_lanes(Tile& to, Mbarrier& full, const TensorMap& map, int first_head,
                                           int first_row) {
#pragma unroll
  for (int p = 0; p < Tile::panels; ++p) tensor_copy_load(to.panel[p], map, 64 * p, first_head, first_row, full);
}

/// Passes a piece of work on with the tiles of its lanes, by all warps of the warpgroup that loads; one without lanes
/// is the end. take_lane(tile, lane) writes what else is needed of a lane, and copy(tile, full) begins to load
/// `tensors` tiles, by one thread.
template <int tensors, class Ring, class Operation, class TakeLane, class Copy>
__device__ __forceinline__ void pass_on_lanes(Ring& ring, RingPlace<Ring::places>& place, const Operation& in,
                                              const LanesWork& work, const TakeLane& take_lane, const Copy& copy) {
  using Queries = decltype(Ring::Tile::q);
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, group = in.group();
  wait_empty(ring, place);
  auto& tile = ring.tile[place.index];
  Mbarrier& full = ring.full[place.index];
  for (int lane = thread; lane < Queries::rows; lane += kWarpgroup) take_lane(tile, lane);
  if (thread == 0) tile.work = work;
  __syncwarp();
  if (thread == 0 && work.keys > 0) {
    const int lanes = Queries::rows / group * group;
    mbarrier_expect_bytes(full, tensors * lanes * Queries::columns * static_cast<int>(sizeof(bf16)));
    copy(tile, full);
  } else if (thread % 32 == 0) {
    mbarrier_arrive(full);
  }
  place.advance();
}

/// Initialises the rings of queries, keys and values, by all threads of a block.
template <class Shape, class Tiles>
__device__ __forceinline__ void init_tiles(Tiles& shared) {
  if (threadIdx.x == 0) {
    constexpr int kWarps = kWarpgroup / 32, kReleasers = Shape::warpgroups * kWarps;
    shared.queries.init(kWarps, kReleasers);
    shared.k.init(kWarps, kReleasers);
    shared.v.init(kWarps, kReleasers);
    mbarrier_init_fence();
  }
  __syncthreads();
}

/// The turns in which warpgroups begin products: in the order of their numbers, so that the tensor cores work for one
/// while the others compute weights. Named barrier 1 + w lets warpgroup w go on when all others have had their turn.
template <int kWarpgroups>
struct Turns {
  int warpgroup;

  __device__ __forceinline__ explicit Turns(int warpgroup_) : warpgroup(warpgroup_) {
#pragma unroll
    for (int w = 0; w < kWarpgroups; ++w)
      if (w < warpgroup) named_barrier_arrive(1 + w, kWarpgroups * kWarpgroup);
  }
  __device__ __forceinline__ void begin() const {
    named_barrier_sync(1 + warpgroup, kWarpgroups * kWarpgroup);
  }
  __device__ __forceinline__ void end() const {
#pragma unroll
    for (int w = 0; w < kWarpgroups; ++w)
      if (w != warpgroup) named_barrier_arrive(1 + w, kWarpgroups * kWarpgroup);
  }
};

/// Begins product [64, right.rows] = left right^T over all columns, for 64 rows of `left` from `row` on.
template <class Left, class Right>
__device__ __forceinline__ void begin_scores(float (&product)[Right::rows / 2], const Left& left, int row,
                                             const Right& right) {
  const WgmmaTile a = wgmma_tile(left.panel[0] + row * 64, sizeof left.panel[0]);
  const WgmmaTile b = wgmma_tile(right.panel[0], sizeof right.panel[0]);
#pragma unroll
  for (int d = 0; d < Right::columns; d += 16)
    wgmma<Right::rows, false, false>(product, a.advance(d), b.advance(d), d > 0);
}

/// The same with the left factor in registers.
template <class Right>
__device__ __forceinline__ void begin_scores(float (&product)[Right::rows / 2],
                                             const uint32_t (&left)[Right::columns / 16][4], const Right& right) {
  const WgmmaTile b = wgmma_tile(right.panel[0], sizeof right.panel[0]);
#pragma unroll
  for (int d = 0; d < Right::columns; d += 16) wgmma<Right::rows, false>(product, left[d / 16], b.advance(d), d > 0);
}

/// Begins sum [64, right.columns] += weights [64, right.rows] right.
template <class Right>
__device__ __forceinline__ void begin_weighted(float (&sum)[Right::columns / 2],
                                               const uint32_t (&weights)[Right::rows / 16][4], const Right& right) {
  const WgmmaTile b = wgmma_tile<true>(right.panel[0], sizeof right.panel[0]);
#pragma unroll
  for (int k = 0; k < Right::rows; k += 16) wgmma<Right::columns, true>(sum, weights[k / 16], b.advance(k));
}

/// Rounds the result of a product to the left factor of another one. It stands behind the wait for the last product
/// that read the factor: no conversion moves before that wait.
template <int n>
__device__ __forceinline__ void pack_factors(uint32_t (&to)[n / 8][4], float (&from)[n]) {
  wgmma_hold(from);
#pragma unroll
  for (int k = 0; k < n / 8; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) to[k][i] = pack_bf16(from[8 * k + 2 * i], from[8 * k + 2 * i + 1]);
}

}  // namespace mor::cuda
