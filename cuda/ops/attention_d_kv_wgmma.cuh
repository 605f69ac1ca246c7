// d_k and d_v of attention_backward on Hopper: a block holds a tile of keys of one key head and works through the lanes
// that see any of them. One warpgroup loads, the others multiply, each for 64 of the keys; while one of them computes
// weights or gradients of scores, a product of its own is under way.
#pragma once

#include "cuda/ops/attention_backward.cuh"
#include "cuda/ops/attention_wgmma.cuh"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

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
template <int kHeadDim, int kLanes>
struct LanesTile {
  PanelTile<kLanes, kHeadDim> q, d_out;
  float lse_log2[kLanes], delta[kLanes];
  int visible[kLanes];
};

/// A piece of work as the warpgroup that loads passes it on: a tile without keys is the end.
template <int kHeadDim, int kKeys>
struct KeysTile {
  PanelTile<kKeys, kHeadDim> k, v;
  KeysWork work;
};

/// The shared memory of a block. At head dim 64 there is room for two tiles of keys.
template <int kHeadDim, class Shape>
struct KeyGradientTiles {
  static constexpr int kKeyTiles = kHeadDim == 64 ? 2 : 1;
  TileRing<KeysTile<kHeadDim, Shape::rows>, kKeyTiles> keys;
  TileRing<LanesTile<kHeadDim, Shape::others>, Shape::stages> lanes;
};

template <class Shape, class Body>
__device__ __forceinline__ void for_each_key_tile(const AttentionBackward& in, const Body& body) {
  const int tiles = (in.rows.max_keys + Shape::rows - 1) / Shape::rows;
  for_each_piece(in.rows.key_lists * in.k.heads * tiles, [&](int number) {
    const KeysWork work(in.rows, in.k.heads, Shape::rows, number);
    if (work.keys > 0) body(work);
  });
}

/// The warpgroup that loads.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void load_key_gradients(KeyGradientTiles<kHeadDim, Shape>& shared, const TensorMap& q_map,
                                                   const TensorMap& d_out_map, const TensorMap& k_map,
                                                   const TensorMap& v_map, const AttentionBackward& in) {
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, group = in.group();
  const int rows_of_tile = Shape::others / group;
  const int bytes = 2 * rows_of_tile * group * kHeadDim * static_cast<int>(sizeof(bf16));
  if (thread == 0)
    for (const TensorMap* map : {&q_map, &d_out_map, &k_map, &v_map}) prefetch_tensor_map(*map);
  RingPlace<KeyGradientTiles<kHeadDim, Shape>::kKeyTiles> of_keys;
  RingPlace<Shape::stages> of_lanes;
  const auto pass_on = [&](const KeysWork& work) {
    wait_empty(shared.keys, of_keys);
    if (thread == 0) {
      auto& tile = shared.keys.tile[of_keys.index];
      Mbarrier& full = shared.keys.full[of_keys.index];
      tile.work = work;
      mbarrier_expect_bytes(full, work.keys == 0 ? 0 : static_cast<int>(sizeof tile.k + sizeof tile.v));
      if (work.keys > 0) {
        const int slot = in.rows.key_start[work.s] + work.first_key;
#pragma unroll
        for (int p = 0; p < kHeadDim / 64; ++p) {
          tensor_copy_load(tile.k.panel[p], k_map, 64 * p, work.key_head, slot, full);
          tensor_copy_load(tile.v.panel[p], v_map, 64 * p, work.key_head, slot, full);
        }
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

/// The left factors of scores (or d_p), for 64 keys of a tile: in registers where there are enough, so that products
/// read less of shared memory, else the tile itself.
template <class Tile, bool kept>
class KeyFactors {
 public:
  /// row: the first key of the warpgroup.
  __device__ __forceinline__ KeyFactors(Tile& tile, int row) : tile_(tile), row_(row) {
    if constexpr (kept) {
      const int warp_row = row + static_cast<int>(threadIdx.x % kWarpgroup) / 32 * 16;
#pragma unroll
      for (int d = 0; d < Tile::columns / 16; ++d)
        load_left<false>(factors_[d], MatrixTile<Tile::rows, 64>{tile.panel[d / 4]}, warp_row, d % 4 * 16);
    }
  }
  /// Begins product [64, right.rows] = keys right^T.
  template <class Right>
  __device__ __forceinline__ void begin(float (&product)[Right::rows / 2], const Right& right) const {
    if constexpr (kept)
      begin_scores(product, factors_, right);
    else
      begin_scores(product, tile_, row_, right);
  }

 private:
  Tile& tile_;
  int row_;
  uint32_t factors_[kept ? Tile::columns / 16 : 1][4];
};

/// A warpgroup that multiplies, for 64 keys of every tile. Scores are transposed, with keys as rows and lanes as
/// columns, so that weights and d_s are the left factors of d_v and d_k. For each tile of lanes a warpgroup computes
/// weights, while d_p is multiplied; then d_s, while d_v is multiplied; and then begins d_k, with the scores of the
/// next tile behind it. Weights and d_s of two tiles are never alive together: at head dim 128 scores, d_p and the two
/// sums leave registers for one of them at a time.
template <int kHeadDim, class Shape>
__device__ __forceinline__ void multiply_key_gradients(KeyGradientTiles<kHeadDim, Shape>& shared,
                                                       const AttentionBackward& in) {
  using Factors = KeyFactors<PanelTile<Shape::rows, kHeadDim>, kHeadDim == 64>;
  constexpr int kLanes = Shape::others;
  const int warpgroup = warpgroup_number(), pair = static_cast<int>(threadIdx.x % 4) * 2;
  const int rows_of_tile = kLanes / in.group();
  const int key_of_tile = static_cast<int>(threadIdx.x / 32) * 16 +
                          static_cast<int>(threadIdx.x % 32) / 4;  // the thread's other one is + 8
  const float scale_log2 = in.scale * kLog2E;
  const Turns<Shape::warpgroups> turns(warpgroup);
  RingPlace<KeyGradientTiles<kHeadDim, Shape>::kKeyTiles> of_keys;
  RingPlace<Shape::stages> now;
  for (;;) {
    wait_full(shared.keys, of_keys);
    auto& keys = shared.keys.tile[of_keys.index];
    if (keys.work.keys == 0) return;
    const int first_key = keys.work.first_key + key_of_tile;
    const Factors k(keys.k, 64 * warpgroup), v(keys.v, 64 * warpgroup);
    float scores[kLanes / 2], d_p[kLanes / 2], d_k[kHeadDim / 2] = {}, d_v[kHeadDim / 2] = {};
    uint32_t weights[kLanes / 16][4], d_s[kLanes / 16][4];
    const auto begin_tile = [&](const RingPlace<Shape::stages>& place) {
      wait_full(shared.lanes, place);
      const auto& lanes = shared.lanes.tile[place.index];
      // The compiler takes products to read their sums. Zeros end the life of the last tile's, whose registers d_s
      // needs.
#pragma unroll
      for (int i = 0; i < kLanes / 2; ++i) scores[i] = d_p[i] = 0;
      wgmma_arrive();
      k.begin(scores, lanes.q);
      wgmma_commit();
      wgmma_arrive();
      v.begin(d_p, lanes.d_out);
      wgmma_commit();
    };
    const auto begin_sum = [&](auto& sum, const auto& factors, const auto& lanes) {
      wgmma_hold(sum);
      wgmma_arrive();
      begin_weighted(sum, factors, lanes);
      wgmma_commit();
    };
    const auto take_tile = [&] {
      const auto& lanes = shared.lanes.tile[now.index];
      const bool all_visible = lanes.visible[0] >= keys.work.first_key + Shape::rows;
      wgmma_hold(scores);
#pragma unroll
      for (int n = 0; n < kLanes / 8; ++n) {
        float lse_log2[2];
        load(lse_log2, lanes.lse_log2 + 8 * n + pair);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& weight = scores[4 * n + i];
          weight = fast_exp2(weight * scale_log2 - lse_log2[i % 2]);
          if (!all_visible && first_key + 8 * (i / 2) >= lanes.visible[8 * n + pair + i % 2]) weight = 0;
        }
      }
      pack_factors(weights, scores);
      begin_sum(d_v, weights, lanes.d_out);
      wgmma_wait<1>();  // d_p
      wgmma_hold(d_p);
#pragma unroll
      for (int n = 0; n < kLanes / 8; ++n) {
        float delta[2];
        load(delta, lanes.delta + 8 * n + pair);
#pragma unroll
        for (int i = 0; i < 4; ++i) d_p[4 * n + i] = scores[4 * n + i] * (d_p[4 * n + i] - delta[i % 2]);
      }
      pack_factors(d_s, d_p);
      wgmma_wait<0>();  // d_v, so that nothing holds the weights any more
      wgmma_hold(d_v);
    };
    const auto release_lanes = [&] {
      release(shared.lanes, now);
      now.advance();
    };
    begin_tile(now);
    wgmma_wait<1>();
    for (int rows = keys.work.end_row - keys.work.first_row;;) {
      take_tile();
      rows -= rows_of_tile;
      if (rows <= 0) break;
      RingPlace<Shape::stages> next = now;
      next.advance();
      turns.begin();
      begin_sum(d_k, d_s, shared.lanes.tile[now.index].q);
      begin_tile(next);
      turns.end();
      wgmma_wait<1>();  // all but d_p
      wgmma_hold(d_k);
      release_lanes();
    }
    const KeysWork work = keys.work;  // only now, because there are no registers to spare before
    release(shared.keys, of_keys);
    of_keys.advance();
    begin_sum(d_k, d_s, shared.lanes.tile[now.index].q);
    wgmma_wait<0>();
    wgmma_hold(d_k);
    release_lanes();
    const int64_t slot = in.rows.key_start[work.s];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = first_key + 8 * half;
      if (key >= work.keys) continue;
      add_to_head<kHeadDim>(in.d_k, slot + key, work.key_head, in.pairs,
                            [&](int n, int i) { return d_k[4 * n + 2 * half + i] * in.scale; });
      add_to_head<kHeadDim>(in.d_v, slot + key, work.key_head, in.pairs,
                            [&](int n, int i) { return d_v[4 * n + 2 * half + i]; });
    }
  }
}

/// d_k and d_v. q_map, d_out_map: boxes of the heads of a group of as many whole rows as a tile has lanes for.
template <int kHeadDim, class Shape>
__global__ void __launch_bounds__(Shape::threads, 1)
    attention_d_kv_wgmma_kernel(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap d_out_map,
                                const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
                                const __grid_constant__ AttentionBackward in) {
#if MOR_CUDA_HOPPER
  wait_for_earlier_kernels();
  auto& shared = *dynamic_shared<KeyGradientTiles<kHeadDim, Shape>>();
  constexpr int kWarps = kWarpgroup / 32, kReleasers = Shape::warpgroups * kWarps;
  if (threadIdx.x == 0) {
    shared.keys.init(1, kReleasers);
    shared.lanes.init(kWarps, kReleasers);
    mbarrier_init_fence();
  }
  // No copy writes the lanes behind the last whole row of a tile, and no weight of zero would hide a NaN there.
  const int lanes = Shape::others / in.group() * in.group();
  for (auto& tile : shared.lanes.tile)
    for (int p = 0; p < kHeadDim / 64; ++p)
      for (int i = lanes * 64 + static_cast<int>(threadIdx.x); i < Shape::others * 64; i += Shape::threads)
        tile.q.panel[p][i] = tile.d_out.panel[p][i] = bf16{0};
  fence_async_proxy();
  __syncthreads();
  divide_block<Shape>([&] { load_key_gradients<kHeadDim, Shape>(shared, q_map, d_out_map, k_map, v_map, in); },
                      [&] { multiply_key_gradients<kHeadDim, Shape>(shared, in); });
#else
  __trap();  // it is launched on compute capability 9.0 alone
#endif
}

}  // namespace mor::cuda
