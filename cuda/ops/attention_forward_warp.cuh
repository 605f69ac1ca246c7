// attention_forward without tiles, for float32 and for large heads: one warp for each row and head, 32 keys at a time,
// with a running softmax.
#pragma once

#include "cuda/ops/attention.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/reduce.cuh"

namespace mor::cuda {

template <int N, class T>
__global__ void __launch_bounds__(32 * kWarpsPerBlock)
    attention_forward_warp_kernel(const Heads<const T> q /*[R,h,hd]*/, const Heads<const T> k /*[slots,kv,hd]*/,
                                  const Heads<const T> v, const Rows rows, float scale, const Heads<T> out /*[R,h,hd]*/,
                                  Matrix<float> lse /*[R,h] or null*/) {
  wait_for_earlier_kernels();
  __shared__ float weights[kWarpsPerBlock][32];
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kWarpsPerBlock + warp;
  if (unit >= static_cast<int64_t>(rows.count) * q.heads) return;
  const int row = static_cast<int>(unit / q.heads), head = static_cast<int>(unit % q.heads);
  const int s = sequence_of(rows, row), visible = rows.visible[row], head_dim = q.head_dim;
  const int key_head = head / (q.heads / k.heads);
  float most = -INFINITY, total = 0, sum[kElementsPerLane] = {};  // total: of the lane's keys
  for (int first = 0; first < visible; first += 32) {
    const int n = visible - first < 32 ? visible - first : 32;
    const float score = lane < n
                            ? dot<N>(q.at(row, head), k.at(key_slot(rows, s, first + lane), key_head), head_dim) * scale
                            : -INFINITY;
    const float larger = fmaxf(most, warp_reduce(score, Max{}));
    const float shrink = expf(most - larger), weight = lane < n ? expf(score - larger) : 0.0f;
    most = larger;
    total = total * shrink + weight;
    weights[warp][lane] = weight;
    __syncwarp();
#pragma unroll
    for (int e = 0; e < kElementsPerLane; ++e) sum[e] *= shrink;
    for (int j = 0; j < n; ++j) {
      const T* value = v.at(key_slot(rows, s, first + j), key_head);
#pragma unroll
      for (int e = 0; e < kElementsPerLane; ++e)
        if (lane + 32 * e < head_dim) sum[e] += weights[warp][j] * to_float(value[lane + 32 * e]);
    }
    __syncwarp();
  }
  total = warp_sum(total);
  const float inverse = visible == 0 ? 0.0f : 1.0f / total;
#pragma unroll
  for (int e = 0; e < kElementsPerLane; ++e)
    if (lane + 32 * e < head_dim) out.at(row, head)[lane + 32 * e] = from_float<T>(sum[e] * inverse);
  if (lse.data != nullptr && lane == 0) *lse.at(row, head) = visible == 0 ? -INFINITY : most + logf(total);
}

}  // namespace mor::cuda
