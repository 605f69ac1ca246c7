// What the tile kernels of attention_forward share: the arguments, the running softmax, and the results of a lane.
#pragma once

#include "cuda/ops/attention_mma.cuh"

namespace mor::cuda {

struct AttentionForward {
  Heads<const bf16> q /*[R,h,hd]*/, k /*[slots,kv,hd]*/, v;
  Heads<bf16> out;    ///< [R,h,hd]
  Matrix<float> lse;  ///< [R,h], or null
  Rows rows;
  float scale;
  bool pairs;  ///< whether the rows of out begin at multiples of 4 bytes

  // Which sequences this launch computes, and how its blocks share them.
  int fewest_lanes, most_lanes;  ///< lanes of a sequence
  int tiles, stretches;          ///< tiles of lanes and stretches of keys in a sequence
  int stretch;                   ///< keys of a stretch, a multiple of 64
  /// For every (sequence, key head, stretch, lane): sums [hd], then the maximum of the scores (in units of log2) and
  /// the sum of weights. Null if there is only one stretch: its results are final.
  float* partial;
  int partial_lanes;

  __host__ __device__ int group() const { return q.heads / k.heads; }
  __device__ float* partial_of(int s, int key_head, int stretch_number, int lane) const {
    const int64_t unit = (static_cast<int64_t>(s) * k.heads + key_head) * stretches + stretch_number;
    return partial + (unit * partial_lanes + lane) * (q.head_dim + 2);
  }
};

/// Takes in the scores of one tile of keys for a thread's two lanes (mma_16x8x16's rows): turns them into weights and
/// raises the running maximum. Earlier sums are to be multiplied by `shrink`. score(n, i): element i of columns
/// 8n .. 8n + 7.
template <int kKeys, class Score>
__device__ __forceinline__ void update_softmax(const Score& score, float (&most)[2], float (&total)[2],
                                               float (&shrink)[2], float scale_log2, int first_key,
                                               const int (&visible)[2]) {
  const int pair = static_cast<int>(threadIdx.x % 4) * 2;
  if (first_key + kKeys > visible[0] || first_key + kKeys > visible[1]) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (first_key + 8 * n + pair + i % 2 >= visible[i / 2]) score(n, i) = -INFINITY;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float larger = -INFINITY;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) larger = fmaxf(larger, fmaxf(score(n, 2 * half), score(n, 2 * half + 1)));
    larger = fmaxf(larger, __shfl_xor_sync(kAllLanes, larger, 1));
    larger = fmaxf(larger, __shfl_xor_sync(kAllLanes, larger, 2));
    larger = fmaxf(most[half], larger * scale_log2);
    const float reference = larger == -INFINITY ? 0.0f : larger;  // no key was visible so far
    shrink[half] = fast_exp2(most[half] - reference);
    most[half] = larger;
    float weights = 0;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        score(n, i) = fast_exp2(score(n, i) * scale_log2 - reference);
        weights += score(n, i);
      }
    total[half] = total[half] * shrink[half] + weights;
  }
}

/// The sum of a lane's weights, of which four threads have a part each.
__device__ __forceinline__ float total_of_lane(float part) {
  part += __shfl_xor_sync(kAllLanes, part, 1);
  return part + __shfl_xor_sync(kAllLanes, part, 2);
}

/// Writes what a thread has of one lane. sum(n, i): the weighted sum of values at column 8n + pair + i. most, total:
/// the maximum of the scores in units of log2, and the sum of the weights.
template <int kHeadDim, class Value>
__device__ __forceinline__ void write_lane(const AttentionForward& in, int64_t row, int64_t head, const Value& sum,
                                           float most, float total) {
  const int pair = static_cast<int>(threadIdx.x % 4) * 2;
  const float inverse = total == 0 ? 0.0f : 1.0f / total;
  bf16* to = in.out.at(row, head);
#pragma unroll
  for (int n = 0; n < kHeadDim / 8; ++n)
    store_pair(to, 8 * n + pair, in.q.head_dim, in.pairs, {sum(n, 0) * inverse, sum(n, 1) * inverse});
  if (in.lse.data != nullptr && pair == 0) *in.lse.at(row, head) = total == 0 ? -INFINITY : most * kLn2 + logf(total);
}

}  // namespace mor::cuda
