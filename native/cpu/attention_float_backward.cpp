// Attention backward in float arithmetic, key tile by key tile; the weights are recomputed from lse.
#include <cstring>

#include "cpu/attention_float.h"
#include "cpu/attention_tile.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// sums[j] += sum over l of weight[l][j] * x[l], for j < n.
template <int N>
void accumulate_transposed(const float (*weight)[kTileKeys], int64_t n, const float* x, int64_t dims, float* sums) {
  for (int64_t c = 0; c < dims; c += 2 * kLanes) {
    Vec a[N], b[N];
    for (int l = 0; l < N; ++l) {
      a[l] = load(x + l * dims + c);
      b[l] = load(x + l * dims + c + kLanes);
    }
    for (int64_t j = 0; j < n; ++j) {
      float* to = sums + j * dims + c;
      Vec first = load(to), second = load(to + kLanes);
      for (int l = 0; l < N; ++l) {
        const Vec value = splat(weight[l][j]);
        first += value * a[l];
        second += value * b[l];
      }
      store(to, first);
      store(to + kLanes, second);
    }
  }
}

float dot(const float* a, const float* b, int64_t n) {
  Vec sums = {};
  for (int64_t c = 0; c < n; c += kLanes) sums += load(a + c) * load(b + c);
  return sum(sums);
}

/// The lanes of a task, as floats.
struct LaneData {
  float *q, *d_out, *d_q;  // [lanes, padded_dim]; q already times the scale
  float *lse, *delta;      // [lanes]
};

/// A tile's keys, plain and transposed, its values transposed, and the gradients of both.
struct TileData {
  float *keys, *keys_transposed, *values_transposed, *d_keys, *d_values;
};

template <int N>
void take_tile(const AttentionCall& call, const Lanes& lanes, int64_t first_lane, int64_t x, int64_t first, int64_t n,
               const LaneData& lane, const TileData& tile) {
  const VecI index = lane_numbers();
  const int64_t dims = call.padded_dim, at = x * dims;
  alignas(64) float weight[N][kTileKeys], d_score[N][kTileKeys];
  int64_t seen[N];
  for (int l = 0; l < N; ++l) seen[l] = std::clamp<int64_t>(lanes.visible(first_lane + x + l) - first, 0, n);
  const int64_t most = seen[N - 1];
  if (most == 0) return;
  multiply_transposed<N>(lane.q + at, call.head_dim, dims, tile.keys_transposed, most, weight);
  multiply_transposed<N>(lane.d_out + at, call.head_dim, dims, tile.values_transposed, most, d_score);
  for (int l = 0; l < N; ++l)
    for (int64_t j = 0; j < most; j += kLanes) {
      const VecI visible = index < static_cast<int32_t>(seen[l] - j);
      const Vec p = select(visible, exp(load(weight[l] + j) - lane.lse[x + l]), Vec{});
      const Vec d_s = p * (load(d_score[l] + j) - lane.delta[x + l]);
      store(weight[l] + j, p);
      store(d_score[l] + j, select(visible, d_s, Vec{}));
    }
  accumulate_transposed<N>(weight, most, lane.d_out + at, dims, tile.d_values);
  accumulate_transposed<N>(d_score, most, lane.q + at, dims, tile.d_keys);
  accumulate<N>(d_score, 0, most, tile.keys, dims, lane.d_q + at);
}

}  // namespace

int64_t float_backward_scratch(const AttentionCall& call, int64_t lanes) {
  return 3 * kTileKeys * call.padded_dim + lanes * (3 * call.padded_dim + 2);
}

template <class T>
void float_backward(const AttentionCall& call, const AttentionTask& task, float* d_keys, float* d_values,
                    float* scratch) {
  const Lanes lanes(call, task.sequence, task.key_head);
  const int64_t dims = call.padded_dim, count = task.lane_end - task.lane_begin;
  float* keys = scratch;
  float* keys_transposed = keys + kTileKeys * dims;
  float* values_transposed = keys_transposed + kTileKeys * dims;
  float* q = values_transposed + kTileKeys * dims;
  float* d_out = q + count * dims;
  float* d_q = d_out + count * dims;
  const LaneData lane = {q, d_out, d_q, d_q + count * dims, d_q + count * dims + count};
  for (int64_t x = 0; x < count; ++x) {
    const int64_t at = task.lane_begin + x;
    load_lane(lanes.at<const T>(call.q, at), call, call.scale, q + x * dims);
    load_lane(lanes.at<const T>(call.out, at), call, 1, d_q + x * dims);
    load_lane(lanes.at<const T>(call.d_out, at), call, 1, d_out + x * dims);
    lane.lse[x] = *lanes.at<const float>(call.lse, at);
    lane.delta[x] = dot(d_out + x * dims, d_q + x * dims, dims);
  }
  std::memset(d_q, 0, static_cast<size_t>(count * dims) * sizeof(float));
  for (int64_t first = 0; first < task.key_end; first += kTileKeys) {
    const int64_t n = std::min(kTileKeys, task.key_end - first);
    const T* row[kTileKeys];
    find_keys(call, call.k, task.sequence, task.key_head, first, n, row);
    load_tile(row, n, call, keys);
    load_tile_transposed(row, n, call, keys_transposed);
    find_keys(call, call.v, task.sequence, task.key_head, first, n, row);
    load_tile_transposed(row, n, call, values_transposed);
    const TileData tile = {keys, keys_transposed, values_transposed, d_keys + first * dims, d_values + first * dims};
    std::memset(tile.d_keys, 0, static_cast<size_t>(n * dims) * sizeof(float));
    std::memset(tile.d_values, 0, static_cast<size_t>(n * dims) * sizeof(float));
    for (int64_t x = 0; x < count; x += 4)
      with_count(count - x,
                 [&](auto n_lanes) { take_tile<n_lanes()>(call, lanes, task.lane_begin, x, first, n, lane, tile); });
  }
  for (int64_t x = 0; x < count; ++x)
    store_lane(d_q + x * dims, call, call.scale, lanes.at<T>(call.d_q, task.lane_begin + x));
}

template void float_backward<float>(const AttentionCall&, const AttentionTask&, float*, float*, float*);
template void float_backward<bfloat16>(const AttentionCall&, const AttentionTask&, float*, float*, float*);

}  // namespace mor::MOR_CPU_ISA
