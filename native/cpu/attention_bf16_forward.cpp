// Attention forward in tiles of bfloat16: 32 lanes at a time, key block by key block with a running maximum (Dao et al.
// 2022, FlashAttention).
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/attention_bf16.h"

#if defined(__AVX512BF16__)

namespace mor::MOR_CPU_ISA {

namespace {

/// The running maximum is raised only when a score exceeds it by so many powers of two. Weights are then at most 2^8,
/// which costs no precision, and the sums are seldom rescaled.
constexpr float kSlack = 8;

}  // namespace

int64_t Bf16Forward::scratch(const AttentionCall& call, int64_t keys) {
  const int64_t floats = call.padded_dim * kBlockLanes + 2 * kBlockKeys * kBlockLanes;
  const int64_t halves = kBlockKeys * kBlockLanes + (kBlockLanes + 32 + 2 * keys) * call.padded_dim;
  return floats + halves / 2;
}

Bf16Forward::Bf16Forward(const AttentionCall& call, float* scratch, int64_t keys)
    : call_(call), depth_(call.padded_dim / 32) {
  sum_ = scratch;
  scores_[0] = sum_ + call.padded_dim * kBlockLanes;
  scores_[1] = scores_[0] + kBlockKeys * kBlockLanes;
  weights_ = reinterpret_cast<bfloat16*>(scores_[1] + kBlockKeys * kBlockLanes);
  q_columns_ = weights_ + kBlockKeys * kBlockLanes;
  staged_ = q_columns_ + kBlockLanes * call.padded_dim;
  keys_ = staged_ + 32 * call.padded_dim;
  values_transposed_ = keys_ + keys * call.padded_dim;
}

void Bf16Forward::load_lanes(const AttentionTask& task, int64_t first, int64_t count) {
  const Lanes lanes(call_, task.sequence, task.key_head);
  const bfloat16* row[kBlockLanes];
  for (int64_t x = 0; x < kBlockLanes; ++x) {
    if (x < count) row[x] = lanes.at<const bfloat16>(call_.q, first + x);
    lane_.visible[x] = x < count ? static_cast<int32_t>(lanes.visible(first + x)) : 0;
    lane_.total[x] = 0;
    lane_.largest[x] = kUnseen;
  }
  stage_rows(row, count, call_, staged_);
  pack_as_columns(staged_, call_.padded_dim, q_columns_);
  least_visible_ = count == kBlockLanes ? lane_.visible[0] : 0;
  most_visible_ = lane_.visible[count - 1];
}

/// scores [n, lanes] = keys q^T
void Bf16Forward::multiply_keys(int64_t first, int64_t n, float* scores) const {
  const TilePair q = {q_columns_, depth_ * kTileElements, kTileElements};
  for (int64_t j = 0; j < n; j += 32) {
    const TilePair keys = {keys_ + (first + j) * call_.padded_dim, depth_ * kTileElements, kTileElements};
    products_.multiply(keys, q, depth_, {scores + j * kBlockLanes, kBlockLanes, false});
  }
}

/// Updates the softmax state of the lanes with the scores of keys [first, first + n), and leaves the weights in
/// weights_.
void Bf16Forward::softmax(int64_t first, int64_t n, float* scores) {
  const __m512 unit = _mm512_set1_ps(call_.scale * kLog2e);
  const auto score = [&](int64_t j, int64_t u) { return scores + j * kBlockLanes + 16 * u; };
  __m512 top[2], total[2];
  for (int64_t u = 0; u < 2; ++u) {
    const __m512i visible = _mm512_loadu_si512(lane_.visible + 16 * u);
    for (int64_t j = std::max<int64_t>(0, least_visible_ - first); j < n; ++j) {
      const __mmask16 seen = _mm512_cmplt_epi32_mask(_mm512_set1_epi32(static_cast<int32_t>(first + j)), visible);
      _mm512_storeu_ps(score(j, u), _mm512_mask_mov_ps(_mm512_set1_ps(kUnseen), seen, _mm512_loadu_ps(score(j, u))));
    }
    __m512 largest[4];
    for (int64_t i = 0; i < 4; ++i) largest[i] = _mm512_loadu_ps(score(i, u));
    for (int64_t j = 4; j < n; j += 4)
      for (int64_t i = 0; i < 4; ++i) largest[i] = _mm512_max_ps(largest[i], _mm512_loadu_ps(score(j + i, u)));
    const __m512 block = _mm512_mul_ps(
        unit, _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3])));
    top[u] = _mm512_loadu_ps(lane_.largest + 16 * u);
    total[u] = _mm512_loadu_ps(lane_.total + 16 * u);
    if (first == 0) {
      top[u] = block;
    } else {
      const __mmask16 rises = _mm512_cmp_ps_mask(block, _mm512_add_ps(top[u], _mm512_set1_ps(kSlack)), _CMP_GT_OQ);
      if (rises != 0) {
        const __m512 higher = _mm512_mask_mov_ps(top[u], rises, block);
        const __m512 factor = exp2_of(_mm512_sub_ps(top[u], higher));
        top[u] = higher;
        total[u] = _mm512_mul_ps(total[u], factor);
        for (int64_t c = 0; c < call_.padded_dim; ++c) {
          float* sums = sum_ + c * kBlockLanes + 16 * u;
          _mm512_storeu_ps(sums, _mm512_mul_ps(_mm512_loadu_ps(sums), factor));
        }
      }
    }
    _mm512_storeu_ps(lane_.largest + 16 * u, top[u]);
  }
  for (int64_t j = 0; j < n; j += 2)
    for (int64_t u = 0; u < 2; ++u) {
      const __m512 a = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(score(j, u)), unit, top[u]));
      const __m512 b = exp2_of(_mm512_fmsub_ps(_mm512_loadu_ps(score(j + 1, u)), unit, top[u]));
      total[u] = _mm512_add_ps(total[u], _mm512_add_ps(a, b));
      _mm512_storeu_si512(weights_ + (j / 32 * 2 + u) * kTileElements + j / 2 % 16 * 32, round_pairs(a, b));
    }
  for (int64_t u = 0; u < 2; ++u) _mm512_storeu_ps(lane_.total + 16 * u, total[u]);
}

/// sum_ += values^T weights
void Bf16Forward::multiply_values(int64_t first, int64_t n) const {
  const TilePair weights = {weights_, kTileElements, 2 * kTileElements};
  for (int64_t d = 0; d < depth_; ++d) {
    float* sums = sum_ + d * 32 * kBlockLanes;
    const TilePair values = {values_transposed_ + first * call_.padded_dim + 2 * d * kTileElements, kTileElements,
                             32 * call_.padded_dim};
    products_.multiply(values, weights, n / 32, {sums, kBlockLanes, first > 0});
  }
}

void Bf16Forward::write(const AttentionTask& task, int64_t first, int64_t count) {
  const Lanes lanes(call_, task.sequence, task.key_head);
  for (int64_t x = 0; x < count; ++x) {
    const bool seen = lane_.visible[x] > 0;
    if (call_.lse)
      *lanes.at<float>(call_.lse, first + x) =
          seen ? lane_.largest[x] * kLn2 + std::log(lane_.total[x]) : -std::numeric_limits<float>::infinity();
    lane_.total[x] = seen ? 1 / lane_.total[x] : 0;
  }
  write_transposed(call_, sum_, kBlockLanes, lane_.total, count,
                   [&](int64_t x) { return lanes.at<bfloat16>(call_.out, first + x); });
}

void Bf16Forward::run(const AttentionTask& task) {
  products_.begin(call_.amx);
  const int64_t dims = call_.padded_dim;
  packed_.take(
      call_, task, staged_, [&](int64_t first) { pack_as_rows(staged_, dims, keys_ + first * dims); },
      [&](int64_t first) { pack_transposed(staged_, dims, values_transposed_ + first * dims); });
  for (int64_t first_lane = task.lane_begin; first_lane < task.lane_end; first_lane += kBlockLanes) {
    const int64_t count = std::min(kBlockLanes, task.lane_end - first_lane);
    load_lanes(task, first_lane, count);
    const int64_t keys = (most_visible_ + 31) / 32 * 32;
    const auto size = [&](int64_t first) { return std::min(kBlockKeys, keys - first); };
    if (keys == 0) std::memset(sum_, 0, static_cast<size_t>(call_.padded_dim * kBlockLanes) * sizeof(float));
    if (keys > 0) multiply_keys(0, size(0), scores_[0]);
    for (int64_t first = 0, i = 0; first < keys; first += kBlockKeys, i ^= 1) {
      // AMX starts on the next block's scores before the vector units work on this block's.
      const int64_t next = first + kBlockKeys;
      if (next < keys) multiply_keys(next, size(next), scores_[i ^ 1]);
      softmax(first, size(first), scores_[i]);
      multiply_values(first, size(first));
    }
    write(task, first_lane, count);
  }
}

}  // namespace mor::MOR_CPU_ISA

#endif
