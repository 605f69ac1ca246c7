// Attention backward in tiles of bfloat16: for each block of 128 lanes and 64 keys the weights are recomputed from lse,
// and all five products run on tiles.
#include <cstring>

#include "cpu/attention_bf16.h"

#if defined(__AVX512BF16__)

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kSubBlock = 32 * 32;

}  // namespace

int64_t Bf16Backward::scratch(const AttentionCall& call, int64_t keys) {
  const int64_t floats = call.padded_dim * kBlockLanes + 4 * kSubBlock;
  const int64_t halves = (4 * kBlockLanes + 32 + 3 * keys) * call.padded_dim + 3 * kBlockKeys * kBlockLanes;
  return floats + halves / 2;
}

Bf16Backward::Bf16Backward(const AttentionCall& call, float* scratch, int64_t keys)
    : call_(call), depth_(call.padded_dim / 32) {
  const int64_t dims = call.padded_dim;
  d_q_ = scratch;
  for (int64_t i = 0; i < 2; ++i) {
    scores_[i] = d_q_ + dims * kBlockLanes + 2 * i * kSubBlock;
    d_weights_[i] = scores_[i] + kSubBlock;
  }
  weights_ = reinterpret_cast<bfloat16*>(d_weights_[1] + kSubBlock);
  d_scores_ = weights_ + kBlockKeys * kBlockLanes;
  d_scores_pairs_ = d_scores_ + kBlockKeys * kBlockLanes;
  q_columns_ = d_scores_pairs_ + kBlockKeys * kBlockLanes;
  q_pairs_ = q_columns_ + kBlockLanes * dims;
  d_out_columns_ = q_pairs_ + kBlockLanes * dims;
  d_out_pairs_ = d_out_columns_ + kBlockLanes * dims;
  staged_ = d_out_pairs_ + kBlockLanes * dims;
  keys_ = staged_ + 32 * dims;
  keys_transposed_ = keys_ + keys * dims;
  values_ = keys_transposed_ + keys * dims;
}

void Bf16Backward::load_lanes(const AttentionTask& task, int64_t first, int64_t count) {
  const Lanes lanes(call_, task.sequence, task.key_head);
  const int64_t dims = call_.padded_dim;
  lane_steps_ = (count + 31) / 32;
  for (int64_t w = 0; w < lane_steps_; ++w) {
    const int64_t n = std::min<int64_t>(32, count - w * 32);
    const bfloat16 *q[32], *d_out[32];
    for (int64_t i = 0; i < 32; ++i) {
      const int64_t x = w * 32 + i;
      lane_.visible[x] = i < n ? static_cast<int32_t>(lanes.visible(first + x)) : 0;
      lane_.lse[x] = lane_.delta[x] = 0;
      if (i >= n) continue;
      q[i] = lanes.at<const bfloat16>(call_.q, first + x);
      d_out[i] = lanes.at<const bfloat16>(call_.d_out, first + x);
      if (lane_.visible[x] == 0) continue;
      const bfloat16* out = lanes.at<const bfloat16>(call_.out, first + x);
      Vec products = {};
      for_lanes(call_.head_dim,
                [&](int64_t c, auto part) { products += part.load(d_out[i] + c) * part.load(out + c); });
      lane_.delta[x] = sum(products);
      lane_.lse[x] = *lanes.at<const float>(call_.lse, first + x) * kLog2e;
    }
    stage_rows(q, n, call_, staged_);
    pack_as_columns(staged_, dims, q_columns_ + w * 32 * dims);
    pack_as_pairs(staged_, dims, q_pairs_ + w * 32 * dims);
    stage_rows(d_out, n, call_, staged_);
    pack_as_columns(staged_, dims, d_out_columns_ + w * 32 * dims);
    pack_as_pairs(staged_, dims, d_out_pairs_ + w * 32 * dims);
    least_visible_[w] = n == 32 ? lane_.visible[w * 32] : 0;
    most_visible_[w] = lane_.visible[w * 32 + n - 1];
  }
}

/// For keys [first + 32 p, + 32) and lanes [32 w, + 32): scores = keys q^T, d_weights = values d_out^T.
void Bf16Backward::multiply_scores(int64_t first, int64_t p, int64_t w, int64_t buffer) const {
  const int64_t dims = call_.padded_dim, key = (first + 32 * p) * dims, lane = 32 * w * dims;
  const auto product = [&](const bfloat16* rows, const bfloat16* columns, float* to) {
    products_.multiply({rows + key, depth_ * kTileElements, kTileElements},
                       {columns + lane, depth_ * kTileElements, kTileElements}, depth_, {to, 32, false});
  };
  product(keys_, q_columns_, scores_[buffer]);
  product(values_, d_out_columns_, d_weights_[buffer]);
}

/// weights = exp(scale scores - lse), d_scores = weights (d_weights - delta), in the forms the next products need.
void Bf16Backward::differentiate(int64_t first, int64_t p, int64_t w, int64_t buffer) const {
  const __m512 unit = _mm512_set1_ps(call_.scale * kLog2e);
  const bool masked = first + 32 * p + 32 > least_visible_[w];
  __m512 lse[2], delta[2];
  __m512i visible[2];
  for (int64_t u = 0; u < 2; ++u) {
    lse[u] = _mm512_loadu_ps(lane_.lse + 32 * w + 16 * u);
    delta[u] = _mm512_loadu_ps(lane_.delta + 32 * w + 16 * u);
    visible[u] = _mm512_loadu_si512(lane_.visible + 32 * w + 16 * u);
  }
  for (int64_t j = 0; j < 32; j += 2) {
    __m512 weight[2][2], d_score[2][2];
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t u = 0; u < 2; ++u) {
        const int64_t at = (j + i) * 32 + 16 * u;
        __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(scores_[buffer] + at), unit, lse[u]);
        if (masked) {
          const __m512i key = _mm512_set1_epi32(static_cast<int32_t>(first + 32 * p + j + i));
          score = _mm512_mask_mov_ps(_mm512_set1_ps(kUnseen), _mm512_cmplt_epi32_mask(key, visible[u]), score);
        }
        weight[i][u] = exp2_of(score);
        d_score[i][u] = _mm512_mul_ps(weight[i][u], _mm512_sub_ps(_mm512_loadu_ps(d_weights_[buffer] + at), delta[u]));
      }
    for (int64_t i = 0; i < 2; ++i) {
      const int64_t at = ((2 * p + (j + i) / 16) * kLaneSteps + w) * kTileElements + (j + i) % 16 * 32;
      _mm512_storeu_si512(weights_ + at, round_two(weight[i][0], weight[i][1]));
      _mm512_storeu_si512(d_scores_ + at, round_two(d_score[i][0], d_score[i][1]));
    }
    for (int64_t u = 0; u < 2; ++u)
      _mm512_storeu_si512(d_scores_pairs_ + ((w * kKeySteps + p) * 2 + u) * kTileElements + j / 2 * 32,
                          round_pairs(d_score[0][u], d_score[1][u]));
  }
}

/// Processes keys [first, first + kBlockKeys) for the lanes of the block.
void Bf16Backward::take_keys(int64_t first, float* d_keys, float* d_values) {
  const int64_t dims = call_.padded_dim;
  // Only sub-blocks of 32 keys by 32 lanes that some lane sees: for keys p these are the lanes from seen_from[p] on.
  struct SubBlock {
    int64_t p, w;
  } list[kKeySteps * kLaneSteps];
  int64_t n = 0, seen_from[kKeySteps], key_steps[kLaneSteps] = {};
  for (int64_t p = 0; p < kKeySteps; ++p) {
    seen_from[p] = lane_steps_;
    for (int64_t w = lane_steps_ - 1; w >= 0 && first + 32 * p < most_visible_[w]; --w) seen_from[p] = w;
    for (int64_t w = seen_from[p]; w < lane_steps_; ++w) {
      list[n++] = {p, w};
      key_steps[w] = p + 1;
    }
  }
  // AMX starts on the next sub-block's products before the vector units work on this one's.
  if (n > 0) multiply_scores(first, list[0].p, list[0].w, 0);
  for (int64_t i = 0; i < n; ++i) {
    if (i + 1 < n) multiply_scores(first, list[i + 1].p, list[i + 1].w, (i + 1) % 2);
    differentiate(first, list[i].p, list[i].w, i % 2);
  }
  for (int64_t p = 0; p < kKeySteps; ++p) {
    if (seen_from[p] == lane_steps_) continue;
    const int64_t from = seen_from[p], steps = lane_steps_ - from;
    const auto product = [&](const bfloat16* rows, const bfloat16* pairs, float* sums) {
      const TilePair a = {rows + (2 * p * kLaneSteps + from) * kTileElements, kLaneSteps * kTileElements,
                          kTileElements};
      for (int64_t d = 0; d < depth_; ++d) {
        float* to = sums + (first + 32 * p) * dims + 32 * d;
        products_.multiply(a, {pairs + 32 * from * dims + 2 * d * kTileElements, kTileElements, 32 * dims}, steps,
                           {to, dims, true});
      }
    };
    product(weights_, d_out_pairs_, d_values);
    product(d_scores_, q_pairs_, d_keys);
  }
  for (int64_t w = 0; w < lane_steps_; ++w) {
    if (key_steps[w] == 0) continue;
    for (int64_t d = 0; d < depth_; ++d) {
      float* to = d_q_ + 32 * d * kBlockLanes + 32 * w;
      products_.multiply({keys_transposed_ + first * dims + 2 * d * kTileElements, kTileElements, 32 * dims},
                         {d_scores_pairs_ + w * kKeySteps * 2 * kTileElements, kTileElements, 2 * kTileElements},
                         key_steps[w], {to, kBlockLanes, true});
    }
  }
}

void Bf16Backward::write(const AttentionTask& task, int64_t first, int64_t count) const {
  const Lanes lanes(call_, task.sequence, task.key_head);
  float factor[kBlockLanes];
  std::fill(factor, factor + kBlockLanes, call_.scale);
  write_transposed(call_, d_q_, kBlockLanes, factor, count,
                   [&](int64_t x) { return lanes.at<bfloat16>(call_.d_q, first + x); });
}

void Bf16Backward::run(const AttentionTask& task, float* d_keys, float* d_values) {
  products_.begin(call_.amx);
  const int64_t dims = call_.padded_dim, size = (task.key_end + 31) / 32 * 32 * dims;
  packed_.take(
      call_, task, staged_,
      [&](int64_t first) {
        pack_as_rows(staged_, dims, keys_ + first * dims);
        pack_transposed(staged_, dims, keys_transposed_ + first * dims);
      },
      [&](int64_t first) { pack_as_rows(staged_, dims, values_ + first * dims); });
  std::memset(d_keys, 0, static_cast<size_t>(size) * sizeof(float));
  std::memset(d_values, 0, static_cast<size_t>(size) * sizeof(float));
  for (int64_t first_lane = task.lane_begin; first_lane < task.lane_end; first_lane += kBlockLanes) {
    const int64_t count = std::min(kBlockLanes, task.lane_end - first_lane);
    load_lanes(task, first_lane, count);
    std::memset(d_q_, 0, static_cast<size_t>(call_.padded_dim * kBlockLanes) * sizeof(float));
    for (int64_t first = 0; first < most_visible_[lane_steps_ - 1]; first += kBlockKeys)
      take_keys(first, d_keys, d_values);
    write(task, first_lane, count);
  }
  for (int64_t i = 0; i < size; i += kLanes) store(d_keys + i, load(d_keys + i) * call_.scale);
}

}  // namespace mor::MOR_CPU_ISA

#endif
