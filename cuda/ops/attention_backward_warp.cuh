// attention_backward without tiles, for float32 and for large heads: one warp for each row and head computes d_q, one
// warp for each key and key head computes d_k and d_v, so no two warps add to the same sum.
#pragma once

#include "cuda/ops/attention.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/reduce.cuh"

namespace mor::cuda {

/// The operands of both kernels. With p = exp(s - lse) and delta = <d_out, out>: d_s = p (<d_out, v> - delta) /
/// sqrt(hd).
template <class T>
struct Inputs {
  Heads<const T> d_out, q, k, v;
  Matrix<const float> lse;  ///< [R,h]
  float* delta;             ///< [R,h], written by the first kernel
  float scale;
};

/// A weight and the gradient of its score.
struct Pair {
  float p, d_s;
};

template <int N, class T>
__device__ Pair pair_of(const Inputs<T>& in, int row, int head, int64_t slot, int key_head, float delta) {
  const float score = dot<N>(in.q.at(row, head), in.k.at(slot, key_head), in.q.head_dim) * in.scale;
  const float d_p = dot<N>(in.d_out.at(row, head), in.v.at(slot, key_head), in.q.head_dim);
  const float p = expf(score - *in.lse.at(row, head));
  return {p, p * (d_p - delta) * in.scale};
}

template <int N, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    attention_d_q_warp_kernel(const Inputs<T> in, const Heads<const T> out, const Rows rows, const Heads<T> d_q) {
  wait_for_earlier_kernels();
  __shared__ float d_s[kWarpsPerBlock][32];
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp;
  if (unit >= static_cast<int64_t>(rows.count) * in.q.heads) return;
  const int row = static_cast<int>(unit / in.q.heads), head = static_cast<int>(unit % in.q.heads);
  const int s = sequence_of(rows, row), visible = rows.visible[row], head_dim = in.q.head_dim;
  const int key_head = head / (in.q.heads / in.k.heads);
  float delta = 0;
  for (int c = lane; c < head_dim; c += 32)
    delta += to_float(in.d_out.at(row, head)[c]) * to_float(out.at(row, head)[c]);
  delta = warp_sum(delta);
  if (lane == 0) in.delta[unit] = delta;
  float sum[kElementsPerLane] = {};
  for (int first = 0; first < visible; first += 32) {
    const int n = visible - first < 32 ? visible - first : 32;
    if (lane < n) d_s[warp][lane] = pair_of<N>(in, row, head, key_slot(rows, s, first + lane), key_head, delta).d_s;
    __syncwarp();
    for (int j = 0; j < n; ++j) {
      const T* key = in.k.at(key_slot(rows, s, first + j), key_head);
#pragma unroll
      for (int e = 0; e < kElementsPerLane; ++e)
        if (lane + 32 * e < head_dim) sum[e] += d_s[warp][j] * to_float(key[lane + 32 * e]);
    }
    __syncwarp();
  }
#pragma unroll
  for (int e = 0; e < kElementsPerLane; ++e)
    if (lane + 32 * e < head_dim) d_q.at(row, head)[lane + 32 * e] = from_float<T>(sum[e]);
}

template <int N, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    attention_d_kv_warp_kernel(const Inputs<T> in, const Rows rows, const Heads<T> d_k, const Heads<T> d_v) {
  wait_for_earlier_kernels();
  __shared__ Pair pairs[kWarpsPerBlock][32];
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp;
  const int64_t key = unit / in.k.heads;
  const int key_head = static_cast<int>(unit % in.k.heads), s = static_cast<int>(key / rows.max_keys);
  if (s >= rows.key_lists) return;
  const int j = static_cast<int>(key % rows.max_keys), last = rows.start[s + 1];
  // A later row sees no fewer keys, so the rows that see this key are the last ones of the sequence.
  const int begin = first_where(rows.start[s], last, [&](int row) { return rows.visible[row] > j; });
  if (begin == last) return;
  const int64_t slot = key_slot(rows, s, j);
  const int group = in.q.heads / in.k.heads, head_dim = in.q.head_dim;
  float k_sum[kElementsPerLane] = {}, v_sum[kElementsPerLane] = {};
  for (int head = key_head * group; head < (key_head + 1) * group; ++head)
    for (int first = begin; first < last; first += 32) {
      const int n = last - first < 32 ? last - first : 32, row = first + lane;
      if (lane < n)
        pairs[warp][lane] =
            pair_of<N>(in, row, head, slot, key_head, in.delta[static_cast<int64_t>(row) * in.q.heads + head]);
      __syncwarp();
      for (int i = 0; i < n; ++i) {
        const T *query = in.q.at(first + i, head), *d_out = in.d_out.at(first + i, head);
        const Pair pair = pairs[warp][i];
#pragma unroll
        for (int e = 0; e < kElementsPerLane; ++e)
          if (lane + 32 * e < head_dim) {
            k_sum[e] += pair.d_s * to_float(query[lane + 32 * e]);
            v_sum[e] += pair.p * to_float(d_out[lane + 32 * e]);
          }
      }
      __syncwarp();
    }
  T *k_to = d_k.at(slot, key_head), *v_to = d_v.at(slot, key_head);
#pragma unroll
  for (int e = 0; e < kElementsPerLane; ++e) {
    const int c = lane + 32 * e;
    if (c >= head_dim) continue;
    k_to[c] = from_float<T>(to_float(k_to[c]) + k_sum[e]);
    v_to[c] = from_float<T>(to_float(v_to[c]) + v_sum[e]);
  }
}

}  // namespace mor::cuda
