// attention_forward on Hopper (FlashAttention-3, Shah et al. 2024): one warpgroup of a block loads tiles, the others
// multiply. While the tensor cores multiply for one warpgroup, another one computes its softmax; and within a
// warpgroup the scores of the next tile are multiplied during the softmax of this one.
#pragma once

#include "cuda/ops/attention_forward.cuh"
#include "cuda/ops/attention_wgmma.cuh"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

/// A piece of work as the warpgroup that loads passes it on: a tile without lanes is the end.
template <int kHeadDim, class Shape>
struct ForwardQueries {
  PanelTile<Shape::rows, kHeadDim> q;
  LanesWork work;
  int visible[Shape::rows];
};

/// The shared memory of a block. There are two tiles of queries, so that the next one is loaded while the results of
/// this one are written.
template <int kHeadDim, class Shape>
struct ForwardTiles {
  TileRing<ForwardQueries<kHeadDim, Shape>, 2> queries;
  TileRing<PanelTile<Shape::others, kHeadDim>, Shape::stages> k, v;
};

/// Runs body(work) for each piece of the block's work.
template <class Shape, class Body>
__device__ __forceinline__ void for_each_work(const AttentionForward& in, const Body& body) {
  for_each_piece(in.rows.key_lists * in.k.heads * in.tiles, [&](int number) {
    const LanesWork work(in.rows, in.k.heads, in.group(), in.tiles, Shape::rows / in.group(), number);
    if (work.lanes == 0) return;
    const int of_sequence = (in.rows.start[work.s + 1] - in.rows.start[work.s]) * in.group();
    if (of_sequence >= in.fewest_lanes && of_sequence <= in.most_lanes) body(work);
  });
}

/// The warpgroup that loads.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void load_forward_tiles(ForwardTiles<kHeadDim, Shape>& shared, const TensorMap& q_map,
                                                   const TensorMap& k_map, const TensorMap& v_map,
                                                   const AttentionForward& in) {
  const int group = in.group();
  if (threadIdx.x % kWarpgroup == 0)
    for (const TensorMap* map : {&q_map, &k_map, &v_map}) prefetch_tensor_map(*map);
  RingPlace<2> query;
  RingPlace<Shape::stages> key;
  const auto pass_on = [&](const LanesWork& work) {
    pass_on_lanes<1>(
        shared.queries, query, in, work,
        [&](auto& tile, int lane) {  // what lanes that do not exist see is not used
          tile.visible[lane] = lane < work.lanes ? in.rows.visible[work.first_row + lane / group] : work.keys;
        },
        [&](auto& tile, Mbarrier& full) { copy_lanes(tile.q, full, q_map, work.key_head * group, work.first_row); });
  };
  for_each_work<Shape>(in, [&](const LanesWork& work) {
    pass_on(work);
    load_keys_and_values(shared.k, shared.v, key, k_map, v_map, in, work);
  });
  pass_on(LanesWork());
}

/// A warpgroup that multiplies, for 64 lanes of every tile.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void multiply_forward_tiles(ForwardTiles<kHeadDim, Shape>& shared,
                                                       const AttentionForward& in) {
  constexpr int kKeys = Shape::others;
  const int warpgroup = warpgroup_number();
  const int first_lane = static_cast<int>(threadIdx.x / 32) * 16 + static_cast<int>(threadIdx.x % 32) / 4;
  const float scale_log2 = in.scale * kLog2E;
  const Turns<Shape::warpgroups> turns(warpgroup);
  RingPlace<2> query;
  RingPlace<Shape::stages> key, value;
  for (;;) {
    wait_full(shared.queries, query);
    const auto& queries = shared.queries.tile[query.index];
    const LanesWork& work = queries.work;  // it stays in shared memory, because there are no registers to spare
    if (work.lanes == 0) return;
    float sum[kHeadDim / 2] = {}, most[2] = {-INFINITY, -INFINITY}, total[2] = {};
    if (work.keys > 0) {
      float scores[kKeys / 2], shrink[2];
      uint32_t weights[kKeys / 16][4];
      const auto multiply_scores = [&] {
        wait_full(shared.k, key);
        wgmma_arrive();
        begin_scores(scores, queries.q, 64 * warpgroup, shared.k.tile[key.index]);
        wgmma_commit();
      };
      const auto multiply_values = [&] {
        wait_full(shared.v, value);
        wgmma_hold(sum);
        wgmma_arrive();
        begin_weighted(sum, weights, shared.v.tile[value.index]);
        wgmma_commit();
      };
      const auto take_scores = [&](int first_key) {
        wgmma_hold(scores);
        release(shared.k, key);
        key.advance();
        const int visible[2] = {queries.visible[first_lane], queries.visible[first_lane + 8]};
        update_softmax<kKeys>([&](int n, int i) -> float& { return scores[4 * n + i]; }, most, total, shrink,
                              scale_log2, first_key, visible);
      };
      const auto take_values = [&] {
        wgmma_wait<0>();
        wgmma_hold(sum);
        release(shared.v, value);
        value.advance();
      };
      int first_key = last_tile(work.keys, kKeys);
      multiply_scores();
      wgmma_wait<0>();
      take_scores(first_key);
      pack_factors(weights, scores);
      for (first_key -= kKeys; first_key >= 0; first_key -= kKeys) {
        turns.begin();
        multiply_scores();
        multiply_values();
        turns.end();
        wgmma_wait<1>();
        take_scores(first_key);
        take_values();
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; ++i) sum[i] *= shrink[i / 2 % 2];
        pack_factors(weights, scores);
      }
      multiply_values();
      take_values();
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float of_lane = total_of_lane(total[half]);
      const int lane = first_lane + 8 * half;
      if (lane >= work.lanes) continue;
      write_lane<kHeadDim>(
          in, work.first_row + lane / in.group(), work.key_head * in.group() + lane % in.group(),
          [&](int n, int i) { return sum[4 * n + 2 * half + i]; }, most[half], of_lane);
    }
    release(shared.queries, query);
    query.advance();
  }
}

/// There is a block for each multiprocessor. The sequences of a launch are those of `fewest_lanes` to `most_lanes`.
template <int kHeadDim, class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_forward_wgmma_kernel(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                                   const __grid_constant__ TensorMap v_map,
                                   const __grid_constant__ AttentionForward in) {
#if MOR_CUDA_HOPPER
  wait_for_earlier_kernels();
  auto& shared = *dynamic_shared<ForwardTiles<kHeadDim, Shape>>();
  init_tiles<Shape>(shared);
  divide_block<Shape>([&] { load_forward_tiles<kHeadDim, Shape>(shared, q_map, k_map, v_map, in); },
                      [&] { multiply_forward_tiles<kHeadDim, Shape>(shared, in); });
#else
  __trap();  // it is launched on compute capability 9.0 alone
#endif
}

}  // namespace mor::cuda
