// qkv_backward on the GPU: one kernel turns q and k back and takes the gradient through their norms, in place, while
// each block sums over its rows what the bias and the norms get; those sums are added up in the order of the blocks.
// Bytes: d_q and d_k read and written once; with norms the columns of q and k of `projected` read, with a bias d_v read.
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/head_lanes.cuh"
#include "cuda/tile/head_pairs.cuh"
#include "cuda/tile/partials.cuh"
#include "cuda/tile/shared.cuh"
#include "ops/checks/qkv.h"

namespace mor::cuda {

namespace {

constexpr unsigned kMostThreads = 256;
constexpr int64_t kRowsPerBlock = 4, kMostBlocks = 1056;  // 8 a multiprocessor of a large GPU

/// A tensor [R, heads, hd], or one that is not there.
template <class T>
struct Heads {
  T* data;
  int64_t stride;

  __device__ __forceinline__ T* head(int64_t row, int64_t number, int head_dim) const {
    return data + row * stride + number * head_dim;
  }
};
template <class T>
Heads<T> heads_of(const Tensor& tensor) {
  return {tensor ? tensor.as<T>() : nullptr, tensor.row_stride};
}

/// The operands, and where the sums over a block's rows go.
template <class T>
struct QkvBackward {
  HeadLanes lanes;
  int64_t rows;
  uint32_t query_heads, key_heads, heads;  ///< of q; of q and k; those that have work to do
  Heads<T> d_q, d_k, d_v, projected;
  const T *q_norm, *k_norm;  ///< [hd], or null
  float epsilon;
  const int32_t* position;
  const float* table;
  int64_t table_stride;
  float* bias_sums;               ///< [gridDim.x, heads, hd], or null
  float *q_norm_sums, *k_norm_sums;  ///< [gridDim.x * gridDim.y, hd]; null where there are no norms
};

/// Block x takes every gridDim.x-th row, block y the y-th stretch of as many heads as the block has groups of lanes: a
/// thread has the same columns in every row, and sums over the rows in registers.
template <bool vectors, class T>
__global__ void __launch_bounds__(kMostThreads, 2) qkv_backward_kernel(const QkvBackward<T> p) {
  constexpr int kWidth = kVectorWidth<T>, kColumns = 2 * kWidth;
  const HeadLanes& lanes = p.lanes;
  const int head_dim = 2 * lanes.half, j = static_cast<int>(threadIdx.x % lanes.lanes) * kWidth;
  const uint32_t groups = blockDim.x / lanes.lanes, group = threadIdx.x / lanes.lanes;
  const uint32_t first_head = blockIdx.y * groups, head = first_head + group;
  const bool turns = head < p.key_heads, is_query = head < p.query_heads;
  const T* const norm = !turns ? nullptr : is_query ? p.q_norm : p.k_norm;
  float d_bias[kColumns] = {}, d_norm[kColumns] = {};
  for (int64_t row = blockIdx.x; row < p.rows && head < p.heads; row += gridDim.x) {
    T* const d_head = is_query ? p.d_q.head(row, head, head_dim)
                      : turns  ? p.d_k.head(row, head - p.query_heads, head_dim)
                               : p.d_v.head(row, head - p.key_heads, head_dim);
    float d[kColumns], x[kColumns], factor[kColumns];
    lanes.load_pairs<vectors>(d, d_head, j);
    if (norm != nullptr) lanes.load_pairs<vectors>(x, p.projected.head(row, head, head_dim), j);
    if (turns) {
      lanes.load_pairs<vectors>(factor, p.table + p.position[row] * p.table_stride, j);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) turn(d[i], d[kWidth + i], factor[i], -factor[kWidth + i]);
    }
    if (norm != nullptr) {
      const float rstd = lanes.rstd(x, p.epsilon);
      float dot = 0;
      lanes.load_pairs<vectors>(factor, norm, j);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        x[i] *= rstd;
        d_norm[i] += d[i] * x[i];
        d[i] *= factor[i];
        dot += d[i] * x[i];
      }
      const float mean = group_sum(dot, lanes.lanes) / static_cast<float>(head_dim);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) d[i] = rstd * (d[i] - x[i] * mean);
    }
    if (p.bias_sums != nullptr) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) d_bias[i] += d[i];
    }
    if (turns) lanes.store_pairs<vectors>(d_head, j, d);
  }

  if (p.bias_sums != nullptr && head < p.heads)
    lanes.store_pairs<vectors>(p.bias_sums + (static_cast<int64_t>(blockIdx.x) * p.heads + head) * head_dim, j, d_bias);
  if (p.q_norm == nullptr) return;
  float* const of_heads = dynamic_shared<float>();  // [groups, hd]
  lanes.store_pairs<false>(of_heads + group * head_dim, j, d_norm);
  __syncthreads();
  const uint32_t end = p.key_heads < first_head + groups ? p.key_heads : first_head + groups;
  const int64_t part = static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  for (int column = static_cast<int>(threadIdx.x); column < head_dim; column += static_cast<int>(blockDim.x)) {
    float of_q = 0, of_k = 0;
    for (uint32_t h = first_head; h < end; ++h)
      (h < p.query_heads ? of_q : of_k) += of_heads[(h - first_head) * head_dim + column];
    p.q_norm_sums[part * head_dim + column] = of_q;
    p.k_norm_sums[part * head_dim + column] = of_k;
  }
}

}  // namespace

void CudaOps::qkv_backward(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& projected,
                           const QkvTensors& weights, double epsilon, const int32_t* position, const Tensor& table,
                           const QkvTensors& gradients) {
  check_qkv_backward(d_q, d_k, d_v, projected, weights, table, gradients);
  const int64_t rows = d_q.rows(), head_dim = table.columns(), key_value = d_k ? d_k.columns() : 0;
  if (!weights.bias && !weights.q_norm) {
    rotary(d_q, position, table, -1);
    if (d_k) rotary(d_k, position, table, -1);
    return;
  }
  const bool has_bias = static_cast<bool>(weights.bias), has_norms = static_cast<bool>(weights.q_norm);
  const ScratchScope scope(scratch_);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    QkvBackward<T> p{};
    p.lanes = head_lanes<T>("qkv_backward", head_dim);
    p.rows = rows;
    p.query_heads = static_cast<uint32_t>(d_q.columns() / head_dim);
    p.key_heads = static_cast<uint32_t>((d_q.columns() + key_value) / head_dim);
    p.heads = has_bias ? static_cast<uint32_t>((d_q.columns() + 2 * key_value) / head_dim) : p.key_heads;
    p.d_q = heads_of<T>(d_q);
    p.d_k = heads_of<T>(d_k);
    p.d_v = heads_of<T>(d_v);
    p.position = position;
    p.table = table.as<float>();
    p.table_stride = table.row_stride;

    const unsigned threads = std::min((p.heads * p.lanes.lanes + 31) / 32 * 32, kMostThreads);
    const unsigned groups = threads / p.lanes.lanes;
    const int64_t columns = p.heads * head_dim, stretches = (p.heads + groups - 1) / groups;
    const int64_t blocks = std::min((rows + kRowsPerBlock - 1) / kRowsPerBlock, kMostBlocks);
    size_t shared = 0;
    if (has_bias) {
      p.bias_sums = scratch_.tensor(DType::float32, blocks, columns, "sums of the bias").as<float>();
      shared += groups * static_cast<size_t>(head_dim) * sizeof(float);
    }
    if (has_norms) {
      p.projected = heads_of<T>(projected);
      p.q_norm = weights.q_norm.as<T>();
      p.k_norm = weights.k_norm.as<T>();
      p.epsilon = static_cast<float>(epsilon);
      p.q_norm_sums = scratch_.tensor(DType::float32, blocks * stretches, head_dim, "sums of q_norm").as<float>();
      p.k_norm_sums = scratch_.tensor(DType::float32, blocks * stretches, head_dim, "sums of k_norm").as<float>();
      shared += groups * static_cast<size_t>(head_dim) * sizeof(float);
    }
    with_head_vectors<T>(
        p.lanes, {&d_q, &d_k, &d_v, &projected, &weights.q_norm, &weights.k_norm, &table}, [&](auto vectors) {
          launch(qkv_backward_kernel<vectors(), T>, dim3(blocks_for(blocks, 1), static_cast<unsigned>(stretches)),
                 dim3(threads), shared, stream_, p);
        });
    if (has_bias) add_partials(stream_, p.bias_sums, blocks, columns, gradients.bias.as<float>(), columns, columns);
    if (has_norms) {
      const int64_t parts = blocks * stretches;
      add_partials(stream_, p.q_norm_sums, parts, head_dim, gradients.q_norm.as<float>(), head_dim, head_dim);
      if (d_k) add_partials(stream_, p.k_norm_sums, parts, head_dim, gradients.k_norm.as<float>(), head_dim, head_dim);
    }
  });
}

}  // namespace mor::cuda
