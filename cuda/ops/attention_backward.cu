// attention_backward on the GPU: by tiles in bf16 (attention_backward_wgmma.cuh on Hopper, for heads of up to 64
// columns; attention_backward_mma.cuh), else one warp for each row or key (attention_backward_warp.cuh).
// FLOPs by tiles: 14·P·h·hd, where P counts the pairs of a row and a key that it sees. That is seven products instead
// of the necessary five (scores and d_p are computed twice), so that no two blocks add to the same gradient.
// Bytes by tiles: d_k and d_v read q and d_out once for every tile of keys, d_q reads k and v once for every tile of
// lanes, and delta reads d_out and out.
#include "cuda/cuda_ops.h"
#include "cuda/gpu.h"
#include "cuda/ops/attention_backward_mma.cuh"
#include "cuda/ops/attention_backward_warp.cuh"
#include "cuda/ops/attention_backward_wgmma.cuh"
#include "ops/checks/attention.h"

namespace mor::cuda {

namespace {

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
  using OfKeys = HopperKeyGradients;
  start(attention_d_kv_wgmma_kernel<OfKeys>, OfKeys{}, sizeof(KeyGradientTiles<OfKeys>),
        (in.rows.max_keys + OfKeys::rows - 1) / OfKeys::rows, OfKeys::others, OfKeys::rows);
  using OfQueries = HopperQueryGradients;
  const int rows_of_tile = OfQueries::rows / in.group();
  start(attention_d_q_wgmma_kernel<OfQueries>, OfQueries{}, sizeof(QueryGradientTiles<OfQueries>),
        (in.rows.max_rows + rows_of_tile - 1) / rows_of_tile, OfQueries::rows, OfQueries::others);
}

void backward_by_tiles(Stream& stream, AttentionBackward in, bool aligned) {
  const int64_t lists = int64_t{in.rows.key_lists} * in.k.heads;
  with_tiles(in.q.head_dim, aligned, [&](auto head_dim, auto is_aligned) {
    using Shape = BackwardAttention<head_dim()>;
    constexpr size_t kSharedBytes = size_t{4} * head_dim() * (Shape::lanes + 2 * Shape::keys);
    in.lane_tiles = (in.rows.max_rows * in.group() + Shape::lanes - 1) / Shape::lanes;
    const int64_t key_tiles = (in.rows.max_keys + Shape::lanes - 1) / Shape::lanes;
    launch(attention_d_kv_mma_kernel<head_dim(), Shape, is_aligned()>, dim3(blocks_for(lists * key_tiles, 1)),
           dim3(Shape::threads), kSharedBytes + 2 * Shape::keys * sizeof(LaneValues), stream, in);
    launch(attention_d_q_mma_kernel<head_dim(), Shape, is_aligned()>, dim3(blocks_for(lists * in.lane_tiles, 1)),
           dim3(Shape::threads), kSharedBytes, stream, in);
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
    const Gpu gpu = gpu_of(stream_);
    if (gpu.hopper && q.shape[2] <= kBackwardHeadDim && in.group() <= HopperKeyGradients::others &&
        rows.max_rows * in.group() >= HopperQueryGradients::rows && heads_mappable({&d_out, &q, &k, &v}))
      return backward_by_wgmma(stream_, in, d_out, q, k, v, gpu);
    return backward_by_tiles(stream_, in, heads_aligned({&d_out, &q, &k, &v}));
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
