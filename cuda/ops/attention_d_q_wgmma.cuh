// d_q of attention_backward on Hopper: a block holds a tile of lanes and works through the keys that they see. One
// warpgroup loads, the others multiply, each for 64 of the lanes; the scores of the next tile are multiplied while d_s
// of this one is computed.
#pragma once

#include "cuda/ops/attention_backward.cuh"
#include "cuda/ops/attention_wgmma.cuh"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

/// A piece of work as the warpgroup that loads passes it on: a tile without lanes is the end.
template <int kHeadDim, int kLanes>
struct BackwardQueries {
  PanelTile<kLanes, kHeadDim> q, d_out;
  LanesWork work;
  LaneValues values[kLanes];
};

/// The shared memory of a block. At head dim 64 there is room for two tiles of queries.
template <int kHeadDim, class Shape>
struct QueryGradientTiles {
  static constexpr int kQueryTiles = kHeadDim == 64 ? 2 : 1;
  TileRing<BackwardQueries<kHeadDim, Shape::rows>, kQueryTiles> queries;
  TileRing<PanelTile<Shape::others, kHeadDim>, Shape::stages> k, v;
};

template <class Shape, class Body>
__device__ __forceinline__ void for_each_lane_tile(const AttentionBackward& in, const Body& body) {
  const int rows_of_tile = Shape::rows / in.group(), tiles = (in.rows.max_rows + rows_of_tile - 1) / rows_of_tile;
  for_each_piece(in.rows.key_lists * in.k.heads * tiles, [&](int number) {
    const LanesWork work(in.rows, in.k.heads, in.group(), tiles, rows_of_tile, number);
    if (work.lanes > 0) body(work);
  });
}

/// The warpgroup that loads.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void load_query_gradients(QueryGradientTiles<kHeadDim, Shape>& shared,
                                                     const TensorMap& q_map, const TensorMap& d_out_map,
                                                     const TensorMap& k_map, const TensorMap& v_map,
                                                     const AttentionBackward& in) {
  const int group = in.group();
  if (threadIdx.x % kWarpgroup == 0)
    for (const TensorMap* map : {&q_map, &d_out_map, &k_map, &v_map}) prefetch_tensor_map(*map);
  RingPlace<QueryGradientTiles<kHeadDim, Shape>::kQueryTiles> query;
  RingPlace<Shape::stages> key;
  const auto pass_on = [&](const LanesWork& work) {
    const int first_head = work.key_head * group;
    pass_on_lanes<2>(
        shared.queries, query, in, work,
        [&](auto& tile, int lane) {
          tile.values[lane] = {0, 0, work.keys};  // what is computed for lanes that do not exist is not used
          if (lane < work.lanes)
            tile.values[lane] = lane_values(in, work.first_row + lane / group, first_head + lane % group);
        },
        [&](auto& tile, Mbarrier& full) {
          copy_lanes(tile.q, full, q_map, first_head, work.first_row);
          copy_lanes(tile.d_out, full, d_out_map, first_head, work.first_row);
        });
  };
  for_each_lane_tile<Shape>(in, [&](const LanesWork& work) {
    pass_on(work);
    load_keys_and_values(shared.k, shared.v, key, k_map, v_map, in, work);
  });
  pass_on(LanesWork());
}

/// A warpgroup that multiplies, for 64 lanes of every tile.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void multiply_query_gradients(QueryGradientTiles<kHeadDim, Shape>& shared,
                                                         const AttentionBackward& in) {
  constexpr int kKeys = Shape::others;
  const int warpgroup = warpgroup_number(), pair = static_cast<int>(threadIdx.x % 4) * 2;
  const int first_lane = static_cast<int>(threadIdx.x / 32) * 16 + static_cast<int>(threadIdx.x % 32) / 4;
  const float scale_log2 = in.scale * kLog2E;
  const Turns<Shape::warpgroups> turns(warpgroup);
  RingPlace<QueryGradientTiles<kHeadDim, Shape>::kQueryTiles> query;
  RingPlace<Shape::stages> next, value, now;
  for (;;) {
    wait_full(shared.queries, query);
    const auto& queries = shared.queries.tile[query.index];
    if (queries.work.lanes == 0) return;
    LanesWork work;  // only then, because there are no registers to spare before
    const auto release_queries = [&] {
      work = queries.work;
      release(shared.queries, query);
      query.advance();
    };
    float d_q[kHeadDim / 2] = {};
    if (queries.work.keys == 0) {
      release_queries();
    } else {
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
      int first_key = last_tile(queries.work.keys, kKeys);
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
      release_queries();
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
  }
}

/// d_q.
template <int kHeadDim, class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_d_q_wgmma_kernel(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap d_out_map,
                               const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
                               const __grid_constant__ AttentionBackward in) {
#if MOR_CUDA_HOPPER
  wait_for_earlier_kernels();
  auto& shared = *dynamic_shared<QueryGradientTiles<kHeadDim, Shape>>();
  init_tiles<Shape>(shared);
  divide_block<Shape>([&] { load_query_gradients<kHeadDim, Shape>(shared, q_map, d_out_map, k_map, v_map, in); },
                      [&] { multiply_query_gradients<kHeadDim, Shape>(shared, in); });
#else
  __trap();  // it is launched on compute capability 9.0 alone
#endif
}

}  // namespace mor::cuda
