// attention_backward on the GPU: by tiles in bf16 (attention_d_kv_wgmma.cuh and attention_d_q_wgmma.cuh on Hopper,
// attention_backward_mma.cuh elsewhere and for few rows), else one warp for each row or key
// (attention_backward_warp.cuh).
// FLOPs by tiles: 14·P·h·hd, where P counts the pairs of a row and a key that it sees. That is seven products instead
// of the necessary five (scores and d_p are computed twice), so that no two blocks add to the same gradient.
// Bytes by tiles: d_k and d_v read q and d_out once for every tile of keys, d_q reads k and v once for every tile of
// lanes, and delta reads d_out and out.
#include "cuda/cuda_ops.h"
#include "cuda/gpu.h"
#include "cuda/ops/attention_backward_mma.cuh"
#include "cuda/ops/attention_backward_warp.cuh"
#include "cuda/ops/attention_d_kv_wgmma.cuh"
#include "cuda/ops/attention_d_q_wgmma.cuh"
#include "ops/checks/attention.h"

namespace mor::cuda {

namespace {

template <int kHeadDim>
void backward_by_wgmma(Stream& stream, const AttentionBackward& in, const Tensor& d_out, const Tensor& q,
                       const Tensor& k, const Tensor& v, const Gpu& gpu) {
  const int64_t lists = int64_t{in.rows.key_lists} * in.k.heads;
  const auto start = [&](auto kernel, auto shape, size_t shared_bytes, int64_t tiles, int lanes, int keys) {
    const int group = in.group(), rows = lanes / group;
    const unsigned work = blocks_for(lists * tiles, 1);
    launch(kernel, dim3(std::min(work, static_cast<unsigned>(gpu.multiprocessors))), dim3(decltype(shape)::threads),
           shared_bytes, stream, heads_map(stream, q, group, rows), heads_map(stream, d_out, group, rows),
           heads_map(stream, k, 1, keys), heads_map(stream, v, 1, keys), in);
  };
  using OfKeys = HopperKeyGradients<kHeadDim>;
  start(attention_d_kv_wgmma_kernel<kHeadDim, OfKeys>, OfKeys{}, sizeof(KeyGradientTiles<kHeadDim, OfKeys>),
        (in.rows.max_keys + OfKeys::rows - 1) / OfKeys::rows, OfKeys::others, OfKeys::rows);
  using OfQueries = HopperQueryGradients<kHeadDim>;
  const int rows_of_tile = OfQueries::rows / in.group();
  start(attention_d_q_wgmma_kernel<kHeadDim, OfQueries>, OfQueries{}, sizeof(QueryGradientTiles<kHeadDim, OfQueries>),
        (in.rows.max_rows + rows_of_tile - 1) / rows_of_tile, OfQueries::rows, OfQueries::others);
}

template <int kHeadDim, bool aligned>
void backward_by_mma(Stream& stream, AttentionBackward in) {
  using Shape = BackwardAttention<kHeadDim>;
  constexpr size_t kSharedBytes = size_t{4} * kHeadDim * (Shape::lanes + 2 * Shape::keys);
  const int64_t lists = int64_t{in.rows.key_lists} * in.k.heads;
  in.lane_tiles = (in.rows.max_rows * in.group() + Shape::lanes - 1) / Shape::lanes;
  const int64_t key_tiles = (in.rows.max_keys + Shape::lanes - 1) / Shape::lanes;
  launch(attention_d_kv_mma_kernel<kHeadDim, Shape, aligned>, dim3(blocks_for(lists * key_tiles, 1)),
         dim3(Shape::threads), kSharedBytes + 2 * Shape::keys * sizeof(LaneValues), stream, in);
  launch(attention_d_q_mma_kernel<kHeadDim, Shape, aligned>, dim3(blocks_for(lists * in.lane_tiles, 1)),
         dim3(Shape::threads), kSharedBytes, stream, in);
}

/// Hopper's kernels take batches whose longest sequence fills a tile of lanes.
void backward_by_tiles(Stream& stream, const AttentionBackward& in, const Tensor& d_out, const Tensor& q,
                       const Tensor& k, const Tensor& v) {
  const Gpu gpu = gpu_of(stream);
  with_tiles(in.q.head_dim, heads_aligned({&d_out, &q, &k, &v}), [&](auto head_dim, auto is_aligned) {
    const bool hopper = gpu.hopper && in.group() <= HopperKeyGradients<head_dim()>::others &&
                        in.rows.max_rows * in.group() >= HopperQueryGradients<head_dim()>::rows &&
                        heads_mappable({&d_out, &q, &k, &v});
    if (hopper)
      backward_by_wgmma<head_dim()>(stream, in, d_out, q, k, v, gpu);
    else
      backward_by_mma<head_dim(), is_aligned()>(stream, in);
  });
}

}  // namespace

void CudaOps::attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, const Tensor& lse, const Rows& rows, const Tensor& d_q,
                                 const Tensor& d_k, const Tensor& d_v) {
  check_attention_backward(d_out, q, k, v, out, lse, rows, d_q, d_k, d_v);
  check_head_dim("attention_backward", q);
  const int64_t units = int64_t{rows.count} * q.shape[1];
  const int64_t key_units = int64_t{rows.key_lists} * rows.max_keys * k.shape[1];
  const float scale = 1.0f / sqrtf(static_cast<float>(q.shape[2]));
  const ArenaScope scope(scratch_);
  float* delta = scratch_.vector(DType::float32, units, "delta").as<float>();
  if (compute_ == DType::bfloat16 && q.shape[2] <= kMostTileHeadDim) {
    AttentionBackward in = {};
    in.d_out = heads_of<const bf16>(d_out);
    in.q = heads_of<const bf16>(q);
    in.k = heads_of<const bf16>(k);
    in.v = heads_of<const bf16>(v);
    in.lse = matrix_of<const float>(lse);
    in.delta = delta;
    in.d_q = heads_of<bf16>(d_q);
    in.d_k = heads_of<bf16>(d_k);
    in.d_v = heads_of<bf16>(d_v);
    in.rows = rows;
    in.scale = scale;
    in.pairs = heads_in_pairs(d_q) && heads_in_pairs(d_k) && heads_in_pairs(d_v);
    with_width<bf16>(q.shape[2], {&d_out, &out}, [&](auto width) {
      launch(attention_delta_kernel<width()>, dim3(blocks_for(units, kDeltaThreads / kDeltaLanes)), dim3(kDeltaThreads),
             0, stream_, units, in.d_out, heads_of<const bf16>(out), delta);
    });
    return backward_by_tiles(stream_, in, d_out, q, k, v);
  }
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(q.shape[2], {&d_out, &q, &k, &v}, [&](auto width) {
      const Inputs<T> in{heads_of<const T>(d_out),
                         heads_of<const T>(q),
                         heads_of<const T>(k),
                         heads_of<const T>(v),
                         matrix_of<const float>(lse),
                         delta,
                         scale};
      launch(attention_d_q_warp_kernel<width(), T>, dim3(blocks_for(units, kWarpsPerBlock)), dim3(32 * kWarpsPerBlock),
             0, stream_, in, heads_of<const T>(out), rows, heads_of<T>(d_q));
      launch(attention_d_kv_warp_kernel<width(), T>, dim3(blocks_for(key_units, kWarpsPerBlock)),
             dim3(32 * kWarpsPerBlock), 0, stream_, in, rows, heads_of<T>(d_k), heads_of<T>(d_v));
    });
  });
}

}  // namespace mor::cuda
