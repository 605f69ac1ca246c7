// attention_backward by tiles: one block for each tile of keys computes d_k and d_v, one block for each tile of lanes
// computes d_q. Both compute the scores again, so no two blocks add to the same sum, and none depends on their order.
#pragma once

#include "cuda/ops/attention_backward.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tuning.h"

namespace mor::cuda {

__device__ __forceinline__ LaneValues lane_values(const AttentionBackward& in, const Lanes& lanes, int lane) {
  if (lane >= lanes.count) return {0, 0, 0};
  return lane_values(in, lanes.row(lane), lanes.head(lane));
}

template <int kThreads, bool aligned, class Tile>
__device__ __forceinline__ void load_lanes(const Tile& to, const Heads<const bf16>& heads, const Lanes& lanes,
                                           int first) {
  load_heads<kThreads, aligned>(to, heads.head_dim, heads.data, [&](int i) {
    return first + i < lanes.count ? heads.at(lanes.row(first + i), lanes.head(first + i)) : nullptr;
  });
}

template <int kThreads, bool aligned, class Tile>
__device__ __forceinline__ void load_keys(const Tile& to, const Heads<const bf16>& heads, int64_t first_slot,
                                          int key_head, int first, int keys) {
  load_heads<kThreads, aligned>(to, heads.head_dim, heads.data, [&](int i) {
    return first + i < keys ? heads.at(first_slot + first + i, key_head) : nullptr;
  });
}

/// Turns scores and d_p [16, n] into weights and d_s, in place. value(n, i) and key(n, i) are the lane's values and the
/// key of an element.
template <int kTiles, class Value, class Key>
__device__ __forceinline__ void weigh(float (&scores)[kTiles][4], float (&d_p)[kTiles][4], float scale_log2,
                                      const Value& value, const Key& key) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const LaneValues lane = value(n, i);
      const float p = key(n, i) < lane.visible ? fast_exp2(scores[n][i] * scale_log2 - lane.lse_log2) : 0.0f;
      scores[n][i] = p;
      d_p[n][i] = p * (d_p[n][i] - lane.delta);
    }
}

/// A block holds a tile of keys and reads the lanes that see them, tile by tile. Scores are transposed, with keys as
/// rows and lanes as columns, so that the registers of the weights are the left factors of both sums. A warp holds 16
/// keys.
template <int kHeadDim, class Shape, bool aligned>
__global__ void __launch_bounds__(Shape::threads, Shape::resident)
    attention_d_kv_mma_kernel(const AttentionBackward in) {
  wait_for_earlier_kernels();
  constexpr int kKeys = Shape::lanes, kLanes = Shape::keys;
  using KeyTile = MatrixTile<kKeys, kHeadDim>;
  using LaneTile = MatrixTile<kLanes, kHeadDim>;
  bf16* shared = dynamic_shared<bf16>();
  const KeyTile k_tile{shared}, v_tile{shared + KeyTile::elements};
  const auto q_tile = [&](int i) { return LaneTile{shared + 2 * KeyTile::elements + i % 2 * LaneTile::elements}; };
  const auto d_out_tile = [&](int i) {
    return LaneTile{shared + 2 * KeyTile::elements + (2 + i % 2) * LaneTile::elements};
  };
  auto* values = reinterpret_cast<LaneValues*>(shared + 2 * KeyTile::elements + 4 * LaneTile::elements);  // [2,kLanes]

  // The first keys of a sequence are seen by most lanes, so their blocks start first.
  const int lists = in.rows.key_lists * in.k.heads, list = static_cast<int>(blockIdx.x) % lists;
  const int s = list / in.k.heads, key_head = list % in.k.heads;
  const int first_key = static_cast<int>(blockIdx.x) / lists * kKeys;
  const Lanes lanes(in.rows, s, key_head, in.group());
  if (lanes.count == 0) return;
  const int keys = visible_of(in.rows, lanes, lanes.count - 1);
  if (first_key >= keys) return;
  const int first_lane =  // the first lane that sees any of these keys
      first_where(0, lanes.count, [&](int lane) { return visible_of(in.rows, lanes, lane) > first_key; });
  const int64_t first_slot = in.rows.key_start[s];
  load_keys<Shape::threads, aligned>(k_tile, in.k, first_slot, key_head, first_key, keys);
  load_keys<Shape::threads, aligned>(v_tile, in.v, first_slot, key_head, first_key, keys);
  load_lanes<Shape::threads, aligned>(q_tile(0), in.q, lanes, first_lane);
  load_lanes<Shape::threads, aligned>(d_out_tile(0), in.d_out, lanes, first_lane);
  async_copy_commit();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kLanes) values[thread] = lane_values(in, lanes, first_lane + thread);

  const int warp_key = thread / 32 * 16, group = thread % 32 / 4, pair = thread % 4 * 2;
  LeftRows<KeyTile, kHeadDim == 64> k(k_tile, warp_key), v(v_tile, warp_key);
  float d_k[kHeadDim / 8][4] = {}, d_v[kHeadDim / 8][4] = {};
  const float scale_log2 = in.scale * kLog2E;
  const int tiles = (lanes.count - first_lane + kLanes - 1) / kLanes;
  for (int tile = 0; tile < tiles; ++tile) {
    async_copy_wait<0>();
    __syncthreads();  // all threads see this tile, and none reads the one before any more
    if (tile == 0) {
      k.keep();
      v.keep();
    }
    LaneValues next = {0, 0, 0};
    if (tile + 1 < tiles) {
      const int first = first_lane + (tile + 1) * kLanes;
      load_lanes<Shape::threads, aligned>(q_tile(tile + 1), in.q, lanes, first);
      load_lanes<Shape::threads, aligned>(d_out_tile(tile + 1), in.d_out, lanes, first);
      if (thread < kLanes) next = lane_values(in, lanes, first + thread);
    }
    async_copy_commit();
    float scores[kLanes / 8][4], d_p[kLanes / 8][4];
    multiply_rows(scores, k, q_tile(tile));
    multiply_rows(d_p, v, d_out_tile(tile));
    const LaneValues* of_lane = values + tile % 2 * kLanes;
    weigh(
        scores, d_p, scale_log2, [&](int n, int i) { return of_lane[8 * n + pair + i % 2]; },
        [&](int, int i) { return first_key + warp_key + group + i / 2 * 8; });
    add_weighted(d_v, scores, d_out_tile(tile));
    add_weighted(d_k, d_p, q_tile(tile));
    if (thread < kLanes) values[(tile + 1) % 2 * kLanes + thread] = next;
  }
  async_copy_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int key = first_key + warp_key + group + 8 * half;
    if (key >= keys) continue;
    add_to_head<kHeadDim>(in.d_k, first_slot + key, key_head, in.pairs,
                          [&](int n, int i) { return d_k[n][2 * half + i] * in.scale; });
    add_to_head<kHeadDim>(in.d_v, first_slot + key, key_head, in.pairs,
                          [&](int n, int i) { return d_v[n][2 * half + i]; });
  }
}

/// A block holds a tile of lanes and reads the keys that they see, tile by tile. A warp holds 16 lanes.
template <int kHeadDim, class Shape, bool aligned>
__global__ void __launch_bounds__(Shape::threads, Shape::resident)
    attention_d_q_mma_kernel(const AttentionBackward in) {
  wait_for_earlier_kernels();
  constexpr int kKeys = Shape::keys, kLanes = Shape::lanes;
  using LaneTile = MatrixTile<kLanes, kHeadDim>;
  using KeyTile = MatrixTile<kKeys, kHeadDim>;
  bf16* shared = dynamic_shared<bf16>();
  const LaneTile q_tile{shared}, d_out_tile{shared + LaneTile::elements};
  const auto k_tile = [&](int i) { return KeyTile{shared + 2 * LaneTile::elements + i % 2 * KeyTile::elements}; };
  const auto v_tile = [&](int i) { return KeyTile{shared + 2 * LaneTile::elements + (2 + i % 2) * KeyTile::elements}; };

  // Later tiles see more keys, so their blocks start first.
  const int lists = in.rows.key_lists * in.k.heads, list = static_cast<int>(blockIdx.x) % lists;
  const int s = list / in.k.heads, key_head = list % in.k.heads;
  const int first_lane = (in.lane_tiles - 1 - static_cast<int>(blockIdx.x) / lists) * kLanes;
  const Lanes lanes(in.rows, s, key_head, in.group());
  if (first_lane >= lanes.count) return;
  const int keys = visible_of(in.rows, lanes, min(first_lane + kLanes, lanes.count) - 1);
  const int64_t first_slot = in.rows.key_start[s];
  const auto load_tile = [&](int tile) {
    load_keys<Shape::threads, aligned>(k_tile(tile), in.k, first_slot, key_head, tile * kKeys, keys);
    load_keys<Shape::threads, aligned>(v_tile(tile), in.v, first_slot, key_head, tile * kKeys, keys);
  };
  const int tiles = (keys + kKeys - 1) / kKeys;
  load_lanes<Shape::threads, aligned>(q_tile, in.q, lanes, first_lane);
  load_lanes<Shape::threads, aligned>(d_out_tile, in.d_out, lanes, first_lane);
  if (tiles > 0) load_tile(0);
  async_copy_commit();

  const int warp_lane = static_cast<int>(threadIdx.x / 32) * 16;
  const int group = static_cast<int>(threadIdx.x % 32) / 4, pair = static_cast<int>(threadIdx.x % 4) * 2;
  const LaneValues values[2] = {lane_values(in, lanes, first_lane + warp_lane + group),
                                lane_values(in, lanes, first_lane + warp_lane + group + 8)};
  LeftRows<LaneTile, kHeadDim == 64> q(q_tile, warp_lane), d_out(d_out_tile, warp_lane);
  float d_q[kHeadDim / 8][4] = {};
  const float scale_log2 = in.scale * kLog2E;
  for (int tile = 0; tile < tiles; ++tile) {
    async_copy_wait<0>();
    __syncthreads();  // all threads see this tile, and none reads the one before any more
    if (tile == 0) {
      q.keep();
      d_out.keep();
    }
    if (tile + 1 < tiles) load_tile(tile + 1);
    async_copy_commit();
    float scores[kKeys / 8][4], d_p[kKeys / 8][4];
    multiply_rows(scores, q, k_tile(tile));
    multiply_rows(d_p, d_out, v_tile(tile));
    weigh(
        scores, d_p, scale_log2, [&](int, int i) { return values[i / 2]; },
        [&](int n, int i) { return tile * kKeys + 8 * n + pair + i % 2; });
    add_weighted(d_q, d_p, k_tile(tile));
  }
  async_copy_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int lane = first_lane + warp_lane + group + 8 * half;
    if (lane >= lanes.count) continue;
    write_d_q<kHeadDim>(in, lanes.row(lane), lanes.head(lane), [&](int n, int i) { return d_q[n][2 * half + i]; });
  }
}

constexpr unsigned kDeltaThreads = 256, kDeltaLanes = 8;

/// delta[row, head] = <d_out, out>, by eight threads for each head.
template <int N>
__global__ void __launch_bounds__(kDeltaThreads)
    attention_delta_kernel(int64_t units, const Heads<const bf16> d_out, const Heads<const bf16> out,
                           float* delta /*[R,h]*/) {
  wait_for_earlier_kernels();
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * (kDeltaThreads / kDeltaLanes) + threadIdx.x / kDeltaLanes;
  float sum = 0;
  if (unit < units) {
    const int64_t row = unit / out.heads, head = unit % out.heads;
    const bf16 *a = d_out.at(row, head), *b = out.at(row, head);
    for (int c = static_cast<int>(threadIdx.x % kDeltaLanes) * N; c < out.head_dim; c += kDeltaLanes * N) {
      float x[N], y[N];
      load(x, a + c);
      load(y, b + c);
#pragma unroll
      for (int i = 0; i < N; ++i) sum += x[i] * y[i];
    }
  }
#pragma unroll
  for (int offset = kDeltaLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
  if (unit < units && threadIdx.x % kDeltaLanes == 0) delta[unit] = sum;
}

}  // namespace mor::cuda
