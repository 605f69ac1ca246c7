// qkv_backward on the GPU. One kernel rotates the gradients of q and k back and takes them through the norms, in place;
// each of its blocks sums over its rows what the bias and the norms get. Then the sums of the blocks are added up in
// their order.
// Bytes: d_q and d_k are read and written once. With norms it reads q's and k's columns of `projected`, with a bias
// d_v. A block writes 4 bytes of partial sums for each of its columns (bias) and 8·hd bytes (norms).
#include <algorithm>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/head_lanes.cuh"
#include "cuda/tile/head_pairs.cuh"
#include "cuda/tile/partials.cuh"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/qkv.h"

namespace mor::cuda {

namespace {

constexpr unsigned kMostThreads = 256;
constexpr int64_t kRowsPerBlock = 4, kMostBlocks = 1056;  // 8 for each multiprocessor of an H200

template <class T>
struct QkvBackward {
  HeadLanes lanes;
  int64_t rows;
  uint32_t query_heads, key_heads, heads;  ///< heads of q; of q and k; all that have work to do
  Heads<T> d_q, d_k, d_v;
  Heads<const T> projected;
  const T *q_norm, *k_norm;  ///< [hd], or null
  float epsilon;
  const int32_t* position;
  Matrix<const float> table;
  float* bias_sums;                  ///< [gridDim.x, heads, hd]; null without a bias
  float *q_norm_sums, *k_norm_sums;  ///< [gridDim.x * gridDim.y, hd]; null without norms
};

/// Block x computes every gridDim.x-th row. Each of its groups of lanes has one head, and block y has the heads from y
/// times the number of groups on. So a thread has the same columns in every row, and sums over the rows in registers.
template <bool vectors, class T>
__global__ void __launch_bounds__(kMostThreads, 2) qkv_backward_kernel(const QkvBackward<T> p) {
  wait_for_earlier_kernels();
  constexpr int kWidth = kVectorWidth<T>, kColumns = 2 * kWidth;
  const HeadLanes& lanes = p.lanes;
  const int head_dim = 2 * lanes.half, pair = static_cast<int>(threadIdx.x % lanes.count) * kWidth;
  const uint32_t groups = blockDim.x / lanes.count, group = threadIdx.x / lanes.count;
  const uint32_t first_head = blockIdx.y * groups, head = first_head + group;
  const bool is_query = head < p.query_heads, rotates = head < p.key_heads;
  const T* const norm = !rotates ? nullptr : is_query ? p.q_norm : p.k_norm;
  float d_bias[kColumns] = {}, d_norm[kColumns] = {};
  for (int64_t row = blockIdx.x; row < p.rows && head < p.heads; row += gridDim.x) {
    T* const d_head = is_query  ? p.d_q.at(row, head)
                      : rotates ? p.d_k.at(row, head - p.query_heads)
                                : p.d_v.at(row, head - p.key_heads);
    float d[kColumns], x[kColumns], factor[kColumns];
    lanes.load_pairs<vectors>(d, d_head, pair);
    if (norm != nullptr) lanes.load_pairs<vectors>(x, p.projected.at(row, head), pair);
    if (rotates) {
      lanes.load_pairs<vectors>(factor, p.table.at(p.position[row]), pair);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) rotate(d[i], d[kWidth + i], factor[i], -factor[kWidth + i]);
    }
    if (norm != nullptr) {  // rmsnorm's backward (ops/ref/rmsnorm.h)
      const float rstd = lanes.rstd(x, p.epsilon);
      float dot = 0;
      lanes.load_pairs<vectors>(factor, norm, pair);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        x[i] *= rstd;
        d_norm[i] += d[i] * x[i];
        d[i] *= factor[i];
        dot += d[i] * x[i];
      }
      const float mean = group_sum(dot, lanes.count) / static_cast<float>(head_dim);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) d[i] = rstd * (d[i] - x[i] * mean);
    }
    if (p.bias_sums != nullptr) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) d_bias[i] += d[i];
    }
    if (rotates) lanes.store_pairs<vectors>(d_head, pair, d);
  }

  if (p.bias_sums != nullptr && head < p.heads)
    lanes.store_pairs<vectors>(p.bias_sums + (static_cast<int64_t>(blockIdx.x) * p.heads + head) * head_dim, pair,
                               d_bias);
  if (p.q_norm == nullptr) return;
  float* const of_groups = dynamic_shared<float>();  // [groups, hd]
  lanes.store_pairs<false>(of_groups + group * head_dim, pair, d_norm);
  __syncthreads();
  const uint32_t end = min(p.key_heads, first_head + groups);
  const int64_t part = static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  for (int column = static_cast<int>(threadIdx.x); column < head_dim; column += static_cast<int>(blockDim.x)) {
    float of_q = 0, of_k = 0;
    for (uint32_t h = first_head; h < end; ++h)
      (h < p.query_heads ? of_q : of_k) += of_groups[(h - first_head) * head_dim + column];
    p.q_norm_sums[part * head_dim + column] = of_q;
    p.k_norm_sums[part * head_dim + column] = of_k;
  }
}

}  // namespace

void CudaOps::qkv_backward(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& projected,
                           const QkvTensors& weights, double epsilon, const int32_t* position, const Tensor& table,
                           const QkvTensors& gradients) {
  check_qkv_backward(d_q, d_k, d_v, projected, weights, table, gradients);
  if (!weights.bias && !weights.q_norm) {
    rotary(d_q, position, table, -1);
    if (d_k) rotary(d_k, position, table, -1);
    return;
  }
  const int64_t rows = d_q.rows(), head_dim = table.columns();
  const ArenaScope scope(scratch_);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    QkvBackward<T> p{};
    p.lanes = head_lanes<T>("qkv_backward", head_dim);
    p.rows = rows;
    p.d_q = heads_of<T>(d_q.heads(head_dim));
    if (d_k) {
      p.d_k = heads_of<T>(d_k.heads(head_dim));
      p.d_v = heads_of<T>(d_v.heads(head_dim));
    }
    p.query_heads = static_cast<uint32_t>(p.d_q.heads);
    p.key_heads = static_cast<uint32_t>(p.d_q.heads + p.d_k.heads);
    p.heads = weights.bias ? static_cast<uint32_t>(p.d_q.heads + 2 * p.d_k.heads) : p.key_heads;
    p.position = position;
    p.table = matrix_of<const float>(table);

    const unsigned threads = std::min((p.heads * p.lanes.count + 31) / 32 * 32, kMostThreads);
    const unsigned groups = threads / p.lanes.count, stretches = (p.heads + groups - 1) / groups;
    const int64_t blocks = std::min((rows + kRowsPerBlock - 1) / kRowsPerBlock, kMostBlocks);
    const int64_t columns = p.heads * head_dim, parts = blocks * stretches;
    size_t shared = 0;
    if (weights.bias) p.bias_sums = scratch_.tensor(DType::float32, blocks, columns, "bias sums").as<float>();
    if (weights.q_norm) {
      p.projected = heads_of<const T>(projected.heads(head_dim));
      p.q_norm = weights.q_norm.as<T>();
      p.k_norm = weights.k_norm.as<T>();
      p.epsilon = static_cast<float>(epsilon);
      p.q_norm_sums = scratch_.tensor(DType::float32, parts, head_dim, "q_norm sums").as<float>();
      p.k_norm_sums = scratch_.tensor(DType::float32, parts, head_dim, "k_norm sums").as<float>();
      shared = groups * static_cast<size_t>(head_dim) * sizeof(float);
    }
    with_head_vectors<T>(p.lanes, {&d_q, &d_k, &d_v, &projected, &weights.q_norm, &weights.k_norm, &table},
                         [&](auto vectors) {
                           launch(qkv_backward_kernel<vectors(), T>, dim3(blocks_for(blocks, 1), stretches),
                                  dim3(threads), shared, stream_, p);
                         });
    const auto add = [&](const float* sums, int64_t n, int64_t count, const Tensor& gradient) {
      add_partials(stream_, sums, n, count, gradient.as<float>(), count, count);
    };
    if (weights.bias) add(p.bias_sums, blocks, columns, gradients.bias);
    if (!weights.q_norm) return;
    add(p.q_norm_sums, parts, head_dim, gradients.q_norm);
    if (d_k) add(p.k_norm_sums, parts, head_dim, gradients.k_norm);
  });
}

}  // namespace mor::cuda
