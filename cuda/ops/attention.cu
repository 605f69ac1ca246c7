// attention_forward on the GPU: by tiles in bf16 (attention_forward_wgmma.cuh on Hopper, attention_forward_mma.cuh
// elsewhere and for few rows), else one warp for each row and head (attention_forward_warp.cuh).
// Bytes: a tile of lanes reads the keys and values that it sees once for all query heads of the group, reads q once and
// writes out once. Decoding reads 4·keys·kv·hd bytes; all else is little.
#include "cuda/cuda_ops.h"
#include "cuda/gpu.h"
#include "cuda/ops/attention_forward_mma.cuh"
#include "cuda/ops/attention_forward_warp.cuh"
#include "cuda/ops/attention_forward_wgmma.cuh"
#include "ops/checks/attention.h"

namespace mor::cuda {

namespace {

template <int kHeadDim, class Shape, bool aligned>
void start(Stream& stream, const AttentionForward& in) {
  constexpr size_t kSharedBytes = size_t{2} * kHeadDim * (Shape::lanes + 4 * Shape::keys);
  const int64_t lists = int64_t{in.rows.key_lists} * in.k.heads;
  launch(attention_forward_mma_kernel<kHeadDim, Shape, aligned>, dim3(blocks_for(lists * in.tiles * in.stretches, 1)),
         dim3(Shape::threads), kSharedBytes, stream, in);
}

/// A tile has as many whole rows, with all heads of the group, as it has lanes for.
template <int kHeadDim>
void start_wgmma(Stream& stream, AttentionForward in, const Tensor& q, const Tensor& k, const Tensor& v,
                 const Gpu& gpu) {
  using Shape = HopperForward<kHeadDim>;
  const int rows_of_tile = Shape::rows / in.group();
  in.tiles = (in.rows.max_rows + rows_of_tile - 1) / rows_of_tile;
  const unsigned work = blocks_for(int64_t{in.rows.key_lists} * in.k.heads * in.tiles, 1);
  launch(attention_forward_wgmma_kernel<kHeadDim, Shape>,
         dim3(std::min(work, static_cast<unsigned>(gpu.multiprocessors))), dim3(Shape::threads),
         sizeof(ForwardTiles<kHeadDim, Shape>), stream, heads_map(stream, q, in.group(), rows_of_tile),
         heads_map(stream, k, 1, Shape::others), heads_map(stream, v, 1, Shape::others), in);
}

/// Sequences with few rows are cut into stretches of their keys, others into tiles of lanes, on Hopper into its own if
/// they fill one. Each launch skips the sequences of the others, so that a sequence gets the same bits in any batch.
void forward_by_tiles(Stream& stream, Arena& scratch, AttentionForward in, const Tensor& q, const Tensor& k,
                      const Tensor& v) {
  const Rows& rows = in.rows;
  const int group = in.group(), few = group <= DecodeAttention::lanes ? DecodeAttention::lanes : 0;
  const int64_t most_lanes = int64_t{rows.max_rows} * group;
  const bool all_equal = rows.count == int64_t{rows.key_lists} * rows.max_rows;
  const int64_t lists = int64_t{rows.key_lists} * in.k.heads;
  const Gpu gpu = gpu_of(stream);
  with_tiles(in.q.head_dim, heads_aligned({&q, &k, &v}), [&](auto head_dim, auto is_aligned) {
    if (most_lanes <= few || (few > 0 && !all_equal)) {
      in.fewest_lanes = 1;
      in.most_lanes = few;
      in.tiles = 1;
      in.stretch = kDecodeStretch;
      in.stretches = std::max(1, (rows.max_keys + kDecodeStretch - 1) / kDecodeStretch);
      in.partial_lanes = static_cast<int>(std::min<int64_t>(few, most_lanes));
      const ArenaScope scope(scratch);
      const int64_t partials = lists * in.stretches * in.partial_lanes * (in.q.head_dim + 2);
      in.partial = in.stretches == 1 ? nullptr : scratch.vector(DType::float32, partials, "partial").as<float>();
      start<head_dim(), DecodeAttention, is_aligned()>(stream, in);
      if (in.partial != nullptr)
        launch(attention_combine_kernel, dim3(blocks_for(lists * in.partial_lanes, 4)), dim3(128), 0, stream, in);
    }
    const int fewest_on_hopper = HopperForward<head_dim()>::rows;
    const bool hopper =
        gpu.hopper && most_lanes >= fewest_on_hopper && heads_mappable({&q, &k, &v}) && group <= fewest_on_hopper;
    in.stretches = 1;
    in.partial = nullptr;
    if (most_lanes > few && !(hopper && all_equal)) {
      using Shape = LongAttention<head_dim()>;
      in.fewest_lanes = few + 1;
      in.most_lanes = hopper ? fewest_on_hopper - 1 : static_cast<int>(most_lanes);
      in.tiles = (in.most_lanes + Shape::lanes - 1) / Shape::lanes;
      in.stretch = (rows.max_keys / Shape::keys + 1) * Shape::keys;
      start<head_dim(), Shape, is_aligned()>(stream, in);
    }
    if (hopper) {
      in.fewest_lanes = fewest_on_hopper;
      in.most_lanes = static_cast<int>(most_lanes);
      start_wgmma<head_dim()>(stream, in, q, k, v, gpu);
    }
  });
}

}  // namespace

void CudaOps::attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                                const Tensor& lse) {
  check_attention_forward(q, k, v, rows, out, lse);
  check_head_dim("attention_forward", q);
  if (rows.count == 0) return;
  const float scale = 1.0f / sqrtf(static_cast<float>(q.shape[2]));
  if (compute_ == DType::bfloat16 && q.shape[2] <= kMostTileHeadDim) {
    AttentionForward in = {};
    in.q = heads_of<const bf16>(q);
    in.k = heads_of<const bf16>(k);
    in.v = heads_of<const bf16>(v);
    in.out = heads_of<bf16>(out);
    in.lse = matrix_of<float>(lse);
    in.rows = rows;
    in.scale = scale;
    in.pairs = heads_in_pairs(out);
    return forward_by_tiles(stream_, scratch_, in, q, k, v);
  }
  const int64_t units = int64_t{rows.count} * q.shape[1];
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(q.shape[2], {&q, &k}, [&](auto width) {
      launch(attention_forward_warp_kernel<width(), T>, dim3(blocks_for(units, kWarpsPerBlock)),
             dim3(32 * kWarpsPerBlock), 0, stream_, heads_of<const T>(q), heads_of<const T>(k), heads_of<const T>(v),
             rows, scale, heads_of<T>(out), matrix_of<float>(lse));
    });
  });
}

}  // namespace mor::cuda
