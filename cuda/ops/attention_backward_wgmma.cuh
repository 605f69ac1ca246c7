// attention_backward on Hopper, for heads of up to 64 columns, by the same two passes as attention_backward_mma.cuh:
// blocks that hold tiles of keys compute d_k and d_v, blocks that hold tiles of lanes compute d_q. One warpgroup of a
// block loads, the others multiply; the scores of the next tile are multiplied while the weights of this one become
// gradients.
#pragma once

#include "cuda/ops/attention_backward.cuh"
#include "cuda/ops/attention_wgmma.cuh"

namespace mor::cuda {

/// Of both passes: the columns of a head in a tile.
constexpr int kBackwardHeadDim = 64;

/// A piece of work: a tile of keys of one sequence and one key head, with the rows that see any of them.
struct KeysWork {
  int s = 0, key_head = 0, first_key = 0;
  int keys = 0;  ///< that any row of the sequence sees; 0: there is no such tile
  int first_row = 0, end_row = 0;

  KeysWork() = default;
  /// number: of a piece of work. Earlier tiles are seen by more rows, so they come first.
  __device__ KeysWork(const Rows& rows, int key_heads, int keys_of_tile, int number) {
    const int list = number % (rows.key_lists * key_heads);
    s = list / key_heads;
    key_head = list % key_heads;
    first_key = number / (rows.key_lists * key_heads) * keys_of_tile;
    end_row = rows.start[s + 1];
    const int begin = rows.start[s], all_keys = begin == end_row ? 0 : rows.visible[end_row - 1];
    if (first_key >= all_keys) return;
    keys = all_keys;
    first_row = first_where(begin, end_row, [&](int row) { return rows.visible[row] > first_key; });
  }
};

/// A tile of the lanes that a tile of keys is multiplied with. Lanes that do not exist have an infinite lse, so that
/// their weights are zeros.
template <int kLanes>
struct LanesTile {
  PanelTile<kLanes, kBackwardHeadDim> q, d_out;
  float lse_log2[kLanes], delta[kLanes];
  int visible[kLanes];
};

/// A piece of work as the warpgroup that loads passes it on: a tile without keys, or without lanes, is the end.
template <int kKeys>
struct KeysTile {
  PanelTile<kKeys, kBackwardHeadDim> k, v;
  KeysWork work;
};
template <int kLanes>
struct BackwardQueries {
  PanelTile<kLanes, kBackwardHeadDim> q, d_out;
  LanesWork work;
  LaneValues values[kLanes];
};

/// The shared memory of a block that computes d_k and d_v.
template <class Shape>
struct KeyGradientTiles {
  TileRing<KeysTile<Shape::rows>, 1> keys;
  TileRing<LanesTile<Shape::others>, Shape::stages> lanes;
};

/// The shared memory of a block that computes d_q.
template <class Shape>
struct QueryGradientTiles {
  TileRing<BackwardQueries<Shape::rows>, 2> queries;
  TileRing<PanelTile<Shape::others, kBackwardHeadDim>, Shape::stages> k, v;
};

template <class Shape, class Body>
__device__ __forceinline__ void for_each_key_tile(const AttentionBackward& in, const Body& body) {
  const int tiles = (in.rows.max_keys + Shape::rows - 1) / Shape::rows;
  for_each_piece(in.rows.key_lists * in.k.heads * tiles, [&](int number) {
    const KeysWork work(in.rows, in.k.heads, Shape::rows, number);
    if (work.keys > 0) body(work);
  });
}

/// The warpgroup that loads, in the pass of d_k and d_v.
template <class Shape>
__device__ __forceinline__ void load_key_gradients(KeyGradientTiles<Shape>& shared, const TensorMap& q_map,
                                                   const TensorMap& d_out_map, const TensorMap& k_map,
                                                   const TensorMap& v_map, const AttentionBackward& in) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, group = in.group();
  const int rows_of_tile = Shape::others / group;
  const int bytes = 2 * rows_of_tile * group * kBackwardHeadDim * static_cast<int>(sizeof(bf16));
  if (thread == 0)
    for (const TensorMap* map : {&q_map, &d_out_map, &k_map, &v_map}) prefetch_tensor_map(*map);
  RingPlace<1> of_keys;
  RingPlace<Shape::stages> of_lanes;
  const auto pass_on = [&](const KeysWork& work) {
    wait_empty(shared.keys, of_keys);
    if (thread == 0) {
      auto& tile = shared.keys.tile[0];
      Mbarrier& full = shared.keys.full[0];
      tile.work = work;
      mbarrier_expect_bytes(full, work.keys == 0 ? 0 : static_cast<int>(sizeof tile.k + sizeof tile.v));
      if (work.keys > 0) {
        const int slot = in.rows.key_start[work.s] + work.first_key;
        tensor_copy_load(tile.k.panel[0], k_map, 0, work.key_head, slot, full);
        tensor_copy_load(tile.v.panel[0], v_map, 0, work.key_head, slot, full);
      }
    }
    of_keys.advance();
  };
  for_each_key_tile<Shape>(in, [&](const KeysWork& work) {
    pass_on(work);
    const int first_head = work.key_head * group;
    for (int row = work.first_row; row < work.end_row; row += rows_of_tile) {
      wait_empty(shared.lanes, of_lanes);
      auto& tile = shared.lanes.tile[of_lanes.index];
      Mbarrier& full = shared.lanes.full[of_lanes.index];
      if (thread < Shape::others) {
        const int of_row = thread / group;
        LaneValues values = {INFINITY, 0, 0};
        if (of_row < rows_of_tile && row + of_row < work.end_row)
          values = lane_values(in, row + of_row, first_head + thread % group);
        tile.lse_log2[thread] = values.lse_log2;
        tile.delta[thread] = values.delta;
        tile.visible[thread] = values.visible;
      }
      __syncwarp();
      if (thread == 0) {
        mbarrier_expect_bytes(full, bytes);
        copy_lanes(tile.q, full, q_map, first_head, row);
        copy_lanes(tile.d_out, full, d_out_map, first_head, row);
      } else if (thread % 32 == 0) {
        mbarrier_arrive(full);
      }
      of_lanes.advance();
    }
  });
  pass_on(KeysWork());
}

/// A warpgroup that multiplies, for 64 keys of every tile. Scores are transposed, with keys as rows and lanes as
/// columns, so that the weights are the left factors of both sums.
template <class Shape>
__device__ __forceinline__ void multiply_key_gradients(KeyGradientTiles<Shape>& shared, const AttentionBackward& in) {
  constexpr int kHeadDim = kBackwardHeadDim, kLanes = Shape::others;
  const int warp_key = static_cast<int>(threadIdx.x / 32) * 16, pair = static_cast<int>(threadIdx.x % 4) * 2;
  const int rows_of_tile = kLanes / in.group();
  const int first_key =
      warp_key + static_cast<int>(threadIdx.x % 32) / 4;  // of the tile; the thread's other one is + 8
  const float scale_log2 = in.scale * kLog2E;
  const Turns<Shape::warpgroups> turns(warpgroup_number());
  RingPlace<1> of_keys;
  RingPlace<Shape::stages> next, now;
  for (;;) {
    wait_full(shared.keys, of_keys);
    const KeysWork work = shared.keys.tile[0].work;
    if (work.keys == 0) return;
    uint32_t k[kHeadDim / 16][4], v[kHeadDim / 16][4];
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d) {
      load_left<false>(k[d], MatrixTile<Shape::rows, 64>{shared.keys.tile[0].k.panel[0]}, warp_key, 16 * d);
      load_left<false>(v[d], MatrixTile<Shape::rows, 64>{shared.keys.tile[0].v.panel[0]}, warp_key, 16 * d);
    }
    release(shared.keys, of_keys);
    of_keys.advance();
    float scores[kLanes / 2], d_p[kLanes / 2], d_k[kHeadDim / 2] = {}, d_v[kHeadDim / 2] = {};
    uint32_t weights[kLanes / 16][4], d_s[kLanes / 16][4];
    const auto multiply_scores = [&] {
      wait_full(shared.lanes, next);
      wgmma_arrive();
      begin_scores(scores, k, shared.lanes.tile[next.index].q);
      begin_scores(d_p, v, shared.lanes.tile[next.index].d_out);
      wgmma_commit();
    };
    const auto multiply_gradients = [&] {
      wgmma_hold(d_k);
      wgmma_hold(d_v);
      wgmma_arrive();
      begin_weighted(d_v, weights, shared.lanes.tile[now.index].d_out);
      begin_weighted(d_k, d_s, shared.lanes.tile[now.index].q);
      wgmma_commit();
    };
    const auto take_scores = [&] {
      wgmma_hold(scores);
      wgmma_hold(d_p);
      const auto& lanes = shared.lanes.tile[next.index];
      const bool all_visible = lanes.visible[0] >= work.first_key + Shape::rows;
#pragma unroll
      for (int n = 0; n < kLanes / 8; ++n) {
        float lse_log2[2], delta[2];
        load(lse_log2, lanes.lse_log2 + 8 * n + pair);
        load(delta, lanes.delta + 8 * n + pair);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& weight = scores[4 * n + i];
          weight = fast_exp2(weight * scale_log2 - lse_log2[i % 2]);
          if (!all_visible && work.first_key + first_key + 8 * (i / 2) >= lanes.visible[8 * n + pair + i % 2])
            weight = 0;
          d_p[4 * n + i] = weight * (d_p[4 * n + i] - delta[i % 2]);
        }
      }
      next.advance();
    };
    const auto take_gradients = [&] {
      wgmma_wait<0>();
      wgmma_hold(d_k);
      wgmma_hold(d_v);
      release(shared.lanes, now);
      now.advance();
    };
    multiply_scores();
    wgmma_wait<0>();
    take_scores();
    pack_factors(weights, scores);
    pack_factors(d_s, d_p);
    for (int row = work.first_row + rows_of_tile; row < work.end_row; row += rows_of_tile) {
      turns.begin();
      multiply_scores();
      multiply_gradients();
      turns.end();
      wgmma_wait<1>();
      take_scores();
      take_gradients();
      pack_factors(weights, scores);
      pack_factors(d_s, d_p);
    }
    multiply_gradients();
    take_gradients();
    const int64_t slot = in.rows.key_start[work.s];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = work.first_key + first_key + 8 * half;
      if (key >= work.keys) continue;
      add_to_head<kHeadDim>(in.d_k, slot + key, work.key_head, in.pairs,
                            [&](int n, int i) { return d_k[4 * n + 2 * half + i] * in.scale; });
      add_to_head<kHeadDim>(in.d_v, slot + key, work.key_head, in.pairs,
                            [&](int n, int i) { return d_v[4 * n + 2 * half + i]; });
    }
  }
}

template <class Shape, class Body>
__device__ __forceinline__ void for_each_lane_tile(const AttentionBackward& in, const Body& body) {
  const int rows_of_tile = Shape::rows / in.group(), tiles = (in.rows.max_rows + rows_of_tile - 1) / rows_of_tile;
  for_each_piece(in.rows.key_lists * in.k.heads * tiles, [&](int number) {
    const LanesWork work(in.rows, in.k.heads, in.group(), tiles, rows_of_tile, number);
    if (work.lanes > 0) body(work);
  });
}

/// The warpgroup that loads, in the pass of d_q.
template <class Shape>
__device__ __forceinline__ void load_query_gradients(QueryGradientTiles<Shape>& shared, const TensorMap& q_map,
                                                     const TensorMap& d_out_map, const TensorMap& k_map,
                                                     const TensorMap& v_map, const AttentionBackward& in) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, group = in.group();
  if (thread == 0)
    for (const TensorMap* map : {&q_map, &d_out_map, &k_map, &v_map}) prefetch_tensor_map(*map);
  RingPlace<2> query;
  RingPlace<Shape::stages> key;
  const auto pass_on = [&](const LanesWork& work) {
    wait_empty(shared.queries, query);
    auto& tile = shared.queries.tile[query.index];
    Mbarrier& full = shared.queries.full[query.index];
    const int first_head = work.key_head * group;
    for (int lane = thread; lane < Shape::rows; lane += kWarpgroup) {
      tile.values[lane] = {0, 0, work.keys};  // what is computed for lanes that do not exist is not used
      if (lane < work.lanes)
        tile.values[lane] = lane_values(in, work.first_row + lane / group, first_head + lane % group);
    }
    if (thread == 0) tile.work = work;
    __syncwarp();
    if (thread == 0 && work.keys > 0) {
      mbarrier_expect_bytes(full,
                            2 * (Shape::rows / group * group) * kBackwardHeadDim * static_cast<int>(sizeof(bf16)));
      copy_lanes(tile.q, full, q_map, first_head, work.first_row);
      copy_lanes(tile.d_out, full, d_out_map, first_head, work.first_row);
    } else if (thread % 32 == 0) {
      mbarrier_arrive(full);
    }
    query.advance();
  };
  for_each_lane_tile<Shape>(in, [&](const LanesWork& work) {
    pass_on(work);
    load_keys_and_values(shared.k, shared.v, key, k_map, v_map, in, work);
  });
  pass_on(LanesWork());
}

/// A warpgroup that multiplies, for 64 lanes of every tile.
template <class Shape>
__device__ __forceinline__ void multiply_query_gradients(QueryGradientTiles<Shape>& shared,
                                                         const AttentionBackward& in) {
  constexpr int kHeadDim = kBackwardHeadDim, kKeys = Shape::others;
  const int warpgroup = warpgroup_number(), pair = static_cast<int>(threadIdx.x % 4) * 2;
  const int first_lane = static_cast<int>(threadIdx.x / 32) * 16 + static_cast<int>(threadIdx.x % 32) / 4;
  const float scale_log2 = in.scale * kLog2E;
  const Turns<Shape::warpgroups> turns(warpgroup);
  RingPlace<2> query;
  RingPlace<Shape::stages> next, value, now;
  for (;;) {
    wait_full(shared.queries, query);
    const auto& queries = shared.queries.tile[query.index];
    const LanesWork& work = queries.work;  // it stays in shared memory, because there are no registers to spare
    if (work.lanes == 0) return;
    float d_q[kHeadDim / 2] = {};
    if (work.keys > 0) {
      float scores[kKeys / 2], d_p[kKeys / 2];
      uint32_t d_s[kKeys / 16][4];
      const auto multiply_scores = [&] {
        wait_full(shared.k, next);
        wait_full(shared.v, value);
        wgmma_arrive();
        begin_scores(scores, queries.q, 64 * warpgroup, shared.k.tile[next.index]);
        begin_scores(d_p, queries.d_out, 64 * warpgroup, shared.v.tile[value.index]);
        wgmma_commit();
      };
      const auto multiply_gradients = [&] {
        wgmma_hold(d_q);
        wgmma_arrive();
        begin_weighted(d_q, d_s, shared.k.tile[now.index]);
        wgmma_commit();
      };
      const auto take_scores = [&](int first_key) {
        wgmma_hold(scores);
        wgmma_hold(d_p);
        release(shared.v, value);
        value.advance();
        next.advance();
        const LaneValues values[2] = {queries.values[first_lane], queries.values[first_lane + 8]};
        const bool all_visible = first_key + kKeys <= min(values[0].visible, values[1].visible);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float weight = fast_exp2(scores[4 * n + i] * scale_log2 - values[i / 2].lse_log2);
            if (!all_visible && first_key + 8 * n + pair + i % 2 >= values[i / 2].visible) weight = 0;
            d_p[4 * n + i] = weight * (d_p[4 * n + i] - values[i / 2].delta);
          }
      };
      const auto take_gradients = [&] {
        wgmma_wait<0>();
        wgmma_hold(d_q);
        release(shared.k, now);
        now.advance();
      };
      int first_key = last_tile(work.keys, kKeys);
      multiply_scores();
      wgmma_wait<0>();
      take_scores(first_key);
      pack_factors(d_s, d_p);
      for (first_key -= kKeys; first_key >= 0; first_key -= kKeys) {
        turns.begin();
        multiply_scores();
        multiply_gradients();
        turns.end();
        wgmma_wait<1>();
        take_scores(first_key);
        take_gradients();
        pack_factors(d_s, d_p);
      }
      multiply_gradients();
      take_gradients();
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int lane = first_lane + 8 * half;
      if (lane >= work.lanes) continue;
      write_d_q<kHeadDim>(in, work.first_row + lane / in.group(), work.key_head * in.group() + lane % in.group(),
                          [&](int n, int i) { return d_q[4 * n + 2 * half + i]; });
    }
    release(shared.queries, query);
    query.advance();
  }
}

/// d_k and d_v. q_map, d_out_map: boxes of the heads of a group of as many whole rows as a tile has lanes for.
template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_d_kv_wgmma_kernel(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap d_out_map,
                                const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
                                const __grid_constant__ AttentionBackward in) {
#if MOR_CUDA_HOPPER
  auto& shared = *dynamic_shared<KeyGradientTiles<Shape>>();
  constexpr int kWarps = kWarpgroup / 32, kReleasers = Shape::warpgroups * kWarps;
  if (threadIdx.x == 0) {
    shared.keys.init(1, kReleasers);
    shared.lanes.init(kWarps, kReleasers);
    mbarrier_init_fence();
  }
  // No copy writes the lanes behind the last whole row of a tile, and no weight of zero would hide a NaN there.
  const int lanes = Shape::others / in.group() * in.group();
  for (auto& tile : shared.lanes.tile)
    for (int i = static_cast<int>(threadIdx.x); i < (Shape::others - lanes) * kBackwardHeadDim; i += Shape::threads) {
      tile.q.panel[0][lanes * kBackwardHeadDim + i] = bf16{0};
      tile.d_out.panel[0][lanes * kBackwardHeadDim + i] = bf16{0};
    }
  fence_async_proxy();
  __syncthreads();
  if (warpgroup_number() == Shape::warpgroups) {
    set_registers_down<Shape::loader_registers>();
    load_key_gradients<Shape>(shared, q_map, d_out_map, k_map, v_map, in);
  } else {
    set_registers_up<Shape::registers>();
    multiply_key_gradients<Shape>(shared, in);
  }
#endif
}

/// d_q.
template <class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_d_q_wgmma_kernel(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap d_out_map,
                               const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
                               const __grid_constant__ AttentionBackward in) {
#if MOR_CUDA_HOPPER
  auto& shared = *dynamic_shared<QueryGradientTiles<Shape>>();
  if (threadIdx.x == 0) {
    constexpr int kWarps = kWarpgroup / 32, kReleasers = Shape::warpgroups * kWarps;
    shared.queries.init(kWarps, kReleasers);
    shared.k.init(kWarps, kReleasers);
    shared.v.init(kWarps, kReleasers);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (warpgroup_number() == Shape::warpgroups) {
    set_registers_down<Shape::loader_registers>();
    load_query_gradients<Shape>(shared, q_map, d_out_map, k_map, v_map, in);
  } else {
    set_registers_up<Shape::registers>();
    multiply_query_gradients<Shape>(shared, in);
  }
#endif
}

}  // namespace mor::cuda
