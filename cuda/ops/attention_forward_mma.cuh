// attention_forward by tiles (FlashAttention-2, Dao 2023): a block holds a tile of lanes and reads its keys in tiles of
// 64, with a running softmax. The same kernel computes long sequences and, with the keys cut into stretches, decoding.
#pragma once

#include "cuda/ops/attention_forward.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tuning.h"

namespace mor::cuda {

/// The running softmax of a warp's 16 kDown lanes. A thread holds two of every 16 lanes (mma_16x8x16's rows), with a
/// fourth of the columns.
template <int kHeadDim, int kDown>
struct Softmax {
  float sum[kDown][kHeadDim / 8][4] = {};
  float most[kDown][2];        ///< maximum of the scores in units of log2
  float total[kDown][2] = {};  ///< sum of the weights of this thread's columns
};

/// Begins to load keys first .. first + 63 of sequence s and their values to shared memory, with zeros from key `end`
/// on. Each warp looks up every slot once, two in each lane, and shares them by shuffles.
template <int kThreads, bool aligned, class Tile>
__device__ __forceinline__ void load_listed_keys(const Tile& k_to, const Tile& v_to, const Heads<const bf16>& k,
                                                 const Heads<const bf16>& v, const Rows& rows, int s, int key_head,
                                                 int first, int end) {
  static_assert(Tile::rows == 64);
  constexpr int kRowsAtOnce = kThreads / Tile::chunks;
  const int thread = static_cast<int>(threadIdx.x), chunk = thread % Tile::chunks, key = first + thread % 32;
  const int low = key < end ? static_cast<int>(key_slot(rows, s, key)) : -1;
  const int high = key + 32 < end ? static_cast<int>(key_slot(rows, s, key + 32)) : -1;
#pragma unroll
  for (int i = 0; i < Tile::rows / kRowsAtOnce; ++i) {
    const int row = thread / Tile::chunks + i * kRowsAtOnce;
    const int slot = __shfl_sync(kAllLanes, i * kRowsAtOnce < 32 ? low : high, row % 32);
    const int count = slot < 0 ? 0 : chunk_count(chunk * 8, k.head_dim);
    copy_chunk<aligned>(k_to.chunk(row, chunk), count == 0 ? k.data : k.at(slot, key_head) + chunk * 8, count);
    copy_chunk<aligned>(v_to.chunk(row, chunk), count == 0 ? v.data : v.at(slot, key_head) + chunk * 8, count);
  }
}

template <int kHeadDim, class Shape, bool aligned>
__global__ void __launch_bounds__(Shape::threads, Shape::resident)
    attention_forward_mma_kernel(const AttentionForward in) {
  wait_for_earlier_kernels();
  constexpr int kKeys = Shape::keys, kDown = Shape::down, kLanes = Shape::lanes;
  using QTile = MatrixTile<kLanes, kHeadDim>;
  using KeyTile = MatrixTile<kKeys, kHeadDim>;
  bf16* shared = dynamic_shared<bf16>();
  const QTile q_tile{shared};
  const auto k_tile = [&](int i) { return KeyTile{shared + QTile::elements + i % 2 * KeyTile::elements}; };
  const auto v_tile = [&](int i) { return KeyTile{shared + QTile::elements + (2 + i % 2) * KeyTile::elements}; };

  // Later tiles see more keys, so their blocks start first.
  const Rows& rows = in.rows;
  const int lists = rows.key_lists * in.k.heads, part = static_cast<int>(blockIdx.x) / lists;
  const int s = static_cast<int>(blockIdx.x) % lists / in.k.heads, key_head = static_cast<int>(blockIdx.x) % in.k.heads;
  const int first_lane = (in.tiles - 1 - part / in.stretches) * kLanes, stretch = part % in.stretches;
  const Lanes lanes(rows, s, key_head, in.group());
  if (lanes.count < in.fewest_lanes || lanes.count > in.most_lanes || first_lane >= lanes.count) return;
  const int last_lane = min(first_lane + kLanes, lanes.count) - 1, seen = visible_of(rows, lanes, last_lane);
  const int begin = stretch * in.stretch, end = seen - begin < in.stretch ? seen : begin + in.stretch;
  if (stretch > 0 && begin >= end) return;

  const auto load_keys = [&](int tile) {
    load_listed_keys<Shape::threads, aligned>(k_tile(tile), v_tile(tile), in.k, in.v, rows, s, key_head,
                                              begin + tile * kKeys, end);
  };
  load_heads<Shape::threads, aligned>(q_tile, in.q.head_dim, in.q.data, [&](int i) {
    const int lane = first_lane + i;
    return lane < lanes.count ? in.q.at(lanes.row(lane), lanes.head(lane)) : nullptr;
  });
  const int tiles = end > begin ? (end - begin + kKeys - 1) / kKeys : 0;
  if (tiles > 0) load_keys(0);
  async_copy_commit();

  const int warp_lane = static_cast<int>(threadIdx.x / 32) * 16 * kDown;  // the warp's first lane in the block
  const int group = static_cast<int>(threadIdx.x % 32) / 4, pair = static_cast<int>(threadIdx.x % 4) * 2;
  int visible[kDown][2], warp_visible = 0;
  Softmax<kHeadDim, kDown> softmax;
#pragma unroll
  for (int m = 0; m < kDown; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      visible[m][half] = visible_of(rows, lanes, first_lane + warp_lane + 16 * m + 8 * half + group);
      warp_visible = max(warp_visible, visible[m][half]);
      softmax.most[m][half] = -INFINITY;
    }
  warp_visible = warp_reduce(warp_visible, Max{});
  const float scale_log2 = in.scale * kLog2E;
  LeftRows<QTile, kDown * kHeadDim == 64> q[kDown];  // larger ones do not fit into registers
#pragma unroll
  for (int m = 0; m < kDown; ++m) q[m] = {q_tile, warp_lane + 16 * m};

  for (int tile = 0; tile < tiles; ++tile) {
    async_copy_wait<0>();
    __syncthreads();  // all threads see this tile, and none reads the one before any more
    if (tile == 0)
#pragma unroll
      for (int m = 0; m < kDown; ++m) q[m].keep();
    if (tile + 1 < tiles) load_keys(tile + 1);
    async_copy_commit();
    const int first_key = begin + tile * kKeys;
    if (first_key >= warp_visible) continue;
    float scores[kDown][kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      uint32_t queries[kDown][4];
#pragma unroll
      for (int m = 0; m < kDown; ++m) q[m].get(queries[m], k);
#pragma unroll
      for (int n = 0; n < kKeys / 8; n += 2) {
        uint32_t first[2], second[2];
        load_right<false>(first, second, k_tile(tile), 8 * n, 16 * k);
#pragma unroll
        for (int m = 0; m < kDown; ++m) {
          mma_16x8x16(scores[m][n], queries[m], first);
          mma_16x8x16(scores[m][n + 1], queries[m], second);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kDown; ++m) {
      float shrink[2];
      update_softmax<kKeys>([&](int n, int i) -> float& { return scores[m][n][i]; }, softmax.most[m], softmax.total[m],
                            shrink, scale_log2, first_key, visible[m]);
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) softmax.sum[m][n][i] *= shrink[i / 2];
    }
#pragma unroll
    for (int k = 0; k < kKeys / 16; ++k) {
      uint32_t weights[kDown][4];
#pragma unroll
      for (int m = 0; m < kDown; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&two)[4] = scores[m][2 * k + i / 2];
          weights[m][i] = pack_bf16(two[i % 2 * 2], two[i % 2 * 2 + 1]);
        }
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; n += 2) {
        uint32_t first[2], second[2];
        load_right<true>(first, second, v_tile(tile), 8 * n, 16 * k);
#pragma unroll
        for (int m = 0; m < kDown; ++m) {
          mma_16x8x16(softmax.sum[m][n], weights[m], first);
          mma_16x8x16(softmax.sum[m][n + 1], weights[m], second);
        }
      }
    }
  }
  async_copy_wait<0>();

#pragma unroll
  for (int m = 0; m < kDown; ++m)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = total_of_lane(softmax.total[m][half]);
      const int lane = first_lane + warp_lane + 16 * m + 8 * half + group;
      if (lane >= lanes.count) continue;
      const float most = softmax.most[m][half];
      if (in.partial != nullptr) {
        float* to = in.partial_of(s, key_head, stretch, lane);
#pragma unroll
        for (int n = 0; n < kHeadDim / 8; ++n)
#pragma unroll
          for (int i = 0; i < 2; ++i)
            if (8 * n + pair + i < in.q.head_dim) to[8 * n + pair + i] = softmax.sum[m][n][2 * half + i];
        if (pair == 0) {
          to[in.q.head_dim] = most;
          to[in.q.head_dim + 1] = total;
        }
        continue;
      }
      write_lane<kHeadDim>(
          in, lanes.row(lane), lanes.head(lane), [&](int n, int i) { return softmax.sum[m][n][2 * half + i]; }, most,
          total);
    }
}

/// One warp for each (sequence, key head, lane) combines the results of its stretches of keys in their order. A row
/// whose keys are one stretch gets the same bits as without stretches.
__global__ void __launch_bounds__(128) attention_combine_kernel(const AttentionForward in) {
  wait_for_earlier_kernels();
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  const int lists = in.rows.key_lists * in.k.heads, column = static_cast<int>(threadIdx.x % 32);
  if (unit >= static_cast<int64_t>(lists) * in.partial_lanes) return;
  const int list = static_cast<int>(unit / in.partial_lanes), lane = static_cast<int>(unit % in.partial_lanes);
  const int s = list / in.k.heads, key_head = list % in.k.heads, head_dim = in.q.head_dim;
  const Lanes lanes(in.rows, s, key_head, in.group());
  if (lane >= lanes.count || lanes.count > in.most_lanes) return;
  const int stretches = (visible_of(in.rows, lanes, lane) + in.stretch - 1) / in.stretch;
  float most = -INFINITY, total = 0, sum[kMostTileHeadDim / 32] = {};
  for (int i = 0; i < stretches; ++i) most = fmaxf(most, in.partial_of(s, key_head, i, lane)[head_dim]);
  for (int i = 0; i < stretches; ++i) {
    const float* part = in.partial_of(s, key_head, i, lane);
    const float weight = fast_exp2(part[head_dim] - most);
    total += weight * part[head_dim + 1];
#pragma unroll
    for (int e = 0; e < kMostTileHeadDim / 32; ++e)
      if (column + 32 * e < head_dim) sum[e] += weight * part[column + 32 * e];
  }
  const float inverse = total == 0 ? 0.0f : 1.0f / total;
  const int64_t row = lanes.row(lane), head = lanes.head(lane);
#pragma unroll
  for (int e = 0; e < kMostTileHeadDim / 32; ++e)
    if (column + 32 * e < head_dim) in.out.at(row, head)[column + 32 * e] = from_float<bf16>(sum[e] * inverse);
  if (in.lse.data != nullptr && column == 0) *in.lse.at(row, head) = total == 0 ? -INFINITY : most * kLn2 + logf(total);
}

}  // namespace mor::cuda
