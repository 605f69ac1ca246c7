// What the tile kernels of attention_backward share: the arguments, the values of a lane, and where gradients go.
#pragma once

#include "cuda/ops/attention_mma.cuh"

namespace mor::cuda {

/// With p = exp(s - lse) and delta = <d_out, out>: d_v = p^T d_out, d_s = p (d_out v^T - delta), d_q = d_s k /
/// sqrt(hd), d_k = d_s^T q / sqrt(hd).
struct AttentionBackward {
  Heads<const bf16> d_out, q /*[R,h,hd]*/, k, v /*[slots,kv,hd]*/;
  Matrix<const float> lse;  ///< [R,h]
  const float* delta;       ///< [R,h]
  Heads<bf16> d_q, d_k, d_v;
  Rows rows;
  float scale;
  bool pairs;      ///< whether the rows of all three gradients begin at multiples of 4 bytes
  int lane_tiles;  ///< of the longest sequence

  __host__ __device__ int group() const { return q.heads / k.heads; }
};

/// What is needed to compute the weights of one lane.
struct LaneValues {
  float lse_log2, delta;
  int visible;
};

__device__ __forceinline__ LaneValues lane_values(const AttentionBackward& in, int64_t row, int64_t head) {
  return {*in.lse.at(row, head) * kLog2E, in.delta[row * in.q.heads + head], in.rows.visible[row]};
}

/// Adds what a thread has of the gradient of one key or value to it. sum(n, i): at column 8n + pair + i.
template <int kHeadDim, class Value>
__device__ __forceinline__ void add_to_head(const Heads<bf16>& heads, int64_t slot, int64_t key_head, bool pairs,
                                            const Value& sum) {
  const int pair = static_cast<int>(threadIdx.x % 4) * 2;
  bf16* to = heads.at(slot, key_head);
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n) {
    float value[2];
    load_pair(value, to, 8 * n + pair, heads.head_dim, pairs);
    store_pair(to, 8 * n + pair, heads.head_dim, pairs, {value[0] + sum(n, 0), value[1] + sum(n, 1)});
  }
}

/// Writes what a thread has of the gradient of one lane's query. sum(n, i): at column 8n + pair + i, without the scale.
template <int kHeadDim, class Value>
__device__ __forceinline__ void write_d_q(const AttentionBackward& in, int64_t row, int64_t head, const Value& sum) {
  const int pair = static_cast<int>(threadIdx.x % 4) * 2;
  bf16* to = in.d_q.at(row, head);
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n)
    store_pair(to, 8 * n + pair, in.q.head_dim, in.pairs, {sum(n, 0) * in.scale, sum(n, 1) * in.scale});
}

}  // namespace mor::cuda
