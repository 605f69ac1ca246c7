// Attention forward in float arithmetic, key tile by key tile with a running maximum (Dao et al. 2022, FlashAttention).
// The result of a row does not depend on other rows.
#include <cmath>
#include <limits>
#include <type_traits>

#include "cpu/attention_dot.h"
#include "cpu/attention_float.h"
#include "cpu/attention_tile.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// Softmax state of some lanes over some keys: out = sum / total, lse = largest + log(total). total is 0 before any
/// key.
struct State {
  float *largest, *total, *sum;  // [lanes], [lanes], [lanes, padded_dim]

  State(float* memory, int64_t lanes) : largest(memory), total(memory + lanes), sum(memory + 2 * lanes) {}
  static int64_t size(int64_t lanes, const AttentionCall& call) { return lanes * (2 + call.padded_dim); }
  void clear(int64_t lanes, const AttentionCall& call) const {
    std::fill(largest, largest + lanes, -std::numeric_limits<float>::infinity());
    std::fill(total, total + lanes, 0.0f);
    std::fill(sum, sum + lanes * call.padded_dim, 0.0f);
  }
};

void multiply(float* x, float factor, int64_t n) {
  for (int64_t c = 0; c < n; c += kLanes) store(x + c, load(x + c) * factor);
}

float exp_of(float x) {
  return exp(splat(x))[0];
}

/// Appends the keys of `from` to those of `to`.
void combine(const State& to, const State& from, int64_t lanes, const AttentionCall& call) {
  const int64_t dims = call.padded_dim;
  for (int64_t x = 0; x < lanes; ++x) {
    if (from.total[x] == 0) continue;
    float* sum = to.sum + x * dims;
    const float* more = from.sum + x * dims;
    if (to.total[x] == 0) {
      to.largest[x] = from.largest[x];
      to.total[x] = from.total[x];
      std::copy(more, more + dims, sum);
      continue;
    }
    const float largest = std::max(to.largest[x], from.largest[x]);
    const float a = exp_of(to.largest[x] - largest), b = exp_of(from.largest[x] - largest);
    to.largest[x] = largest;
    to.total[x] = to.total[x] * a + from.total[x] * b;
    for (int64_t c = 0; c < dims; c += kLanes) store(sum + c, load(sum + c) * a + load(more + c) * b);
  }
}

/// Updates the state of one lane with n scores, and turns these into weights exp(score - largest).
void take_scores(float* score, int64_t n, const State& state, int64_t x, int64_t dims) {
  const VecI index = lane_numbers();
  const int64_t vectors = (n + kLanes - 1) / kLanes;
  Vec largest_lanes = splat(state.largest[x]);
  for (int64_t j = 0; j < vectors; ++j) {
    const VecI seen = index < static_cast<int32_t>(n - j * kLanes);
    const Vec s = select(seen, load(score + j * kLanes), splat(-std::numeric_limits<float>::infinity()));
    store(score + j * kLanes, s);
    largest_lanes = max(largest_lanes, s);
  }
  const float top = largest(largest_lanes);
  if (top > state.largest[x]) {
    const float factor = exp_of(state.largest[x] - top);
    if (state.total[x] > 0) multiply(state.sum + x * dims, factor, dims);
    state.total[x] *= factor;
    state.largest[x] = top;
  }
  Vec totals = {};
  for (int64_t j = 0; j < vectors; ++j) {
    const Vec weight = exp(load(score + j * kLanes) - top);
    store(score + j * kLanes, weight);
    totals += weight;
  }
  state.total[x] += sum(totals);
}

/// A tile of float keys and values, copied so that the loops see neither strides nor cache blocks.
class FloatTile {
 public:
  static int64_t scratch(const AttentionCall& call) { return (kFloatLanes + 2 * kTileKeys) * call.padded_dim; }
  FloatTile(const AttentionCall& call, const AttentionTask& task, float* scratch)
      : call_(call),
        q_(scratch),
        keys_(q_ + kFloatLanes * call.padded_dim),
        values_(keys_ + kTileKeys * call.padded_dim) {
    const Lanes lanes(call, task.sequence, task.key_head);
    for (int64_t x = 0; x < task.lane_end - task.lane_begin; ++x)
      load_lane(lanes.at<const float>(call.q, task.lane_begin + x), call, call.scale, q_ + x * call.padded_dim);
  }

  void take(const KeyRows<float>& rows, const KeyRows<float>& next) {
    next.fetch_all(call_.head_dim);
    load_tile_transposed(rows.key, rows.n, call_, keys_);
    load_tile(rows.value, rows.n, call_, values_);
  }
  template <int N>
  void scores(int64_t x, int64_t n, float (*product)[kTileKeys]) const {
    multiply_transposed<N>(q_ + x * call_.padded_dim, call_.head_dim, call_.padded_dim, keys_, n, product);
  }
  template <int N>
  void accumulate(int64_t, const float (*weight)[kTileKeys], int64_t begin, int64_t end, float* sum) const {
    mor::MOR_CPU_ISA::accumulate<N>(weight, begin, end, values_, call_.padded_dim, sum);
  }

 private:
  const AttentionCall& call_;
  float *q_, *keys_, *values_;  // [lanes, padded_dim] times the scale, [padded_dim, kTileKeys], [kTileKeys, padded_dim]
};

template <class T>
using Tile = std::conditional_t<std::is_same_v<T, bfloat16>, DotTile, FloatTile>;

/// Processes a tile of n keys, from key `first` on, for the N lanes from x on.
template <int N, class Tile>
void take_tile(const AttentionCall& call, const Lanes& lanes, const AttentionTask& task, int64_t x, int64_t first,
               int64_t n, const Tile& tile, const State& state) {
  const int64_t dims = call.padded_dim;
  alignas(64) float weight[N][kTileKeys];
  int64_t seen[N], least = n;
  for (int l = 0; l < N; ++l) {
    seen[l] = std::clamp<int64_t>(lanes.visible(task.lane_begin + x + l) - first, 0, n);
    least = std::min(least, seen[l]);
  }
  if (seen[N - 1] == 0) return;
  tile.template scores<N>(x, seen[N - 1], weight);
  for (int l = 0; l < N; ++l)
    if (seen[l] > 0) take_scores(weight[l], seen[l], state, x + l, dims);
  // A lane must not read values that it does not see, not even with weight 0, since they may be NaN.
  tile.template accumulate<N>(x, weight, 0, least, state.sum + x * dims);
  for (int l = 0; l < N; ++l)
    if (seen[l] > least) tile.template accumulate<1>(x + l, weight + l, least, seen[l], state.sum + (x + l) * dims);
}

template <class T>
void write(const AttentionCall& call, const AttentionTask& task, const State& state) {
  const Lanes lanes(call, task.sequence, task.key_head);
  for (int64_t x = 0; x < task.lane_end - task.lane_begin; ++x) {
    const int64_t lane = task.lane_begin + x;
    const float total = state.total[x];
    store_lane(state.sum + x * call.padded_dim, call, total == 0 ? 0.0f : 1.0f / total, lanes.at<T>(call.out, lane));
    if (call.lse) *lanes.at<float>(call.lse, lane) = state.largest[x] + std::log(total);
  }
}

}  // namespace

int64_t float_forward_partial(const AttentionCall& call) {
  return State::size(kFloatLanes, call);
}

int64_t float_forward_scratch(const AttentionCall& call) {
  const int64_t tile = call.q.dtype == DType::float32 ? Tile<float>::scratch(call) : Tile<bfloat16>::scratch(call);
  return 2 * State::size(kFloatLanes, call) + tile;
}

template <class T>
void float_forward(const AttentionCall& call, const AttentionTask& task, float* scratch) {
  const Lanes lanes(call, task.sequence, task.key_head);
  const int64_t count = task.lane_end - task.lane_begin, state_size = State::size(kFloatLanes, call);
  const State stretch(scratch, count), whole(scratch + state_size, count);
  Tile<T> tile(call, task, scratch + 2 * state_size);
  KeyRows<T> rows[2];  // of this tile and of the next, which is prefetched meanwhile
  const auto find = [&](KeyRows<T>& found, int64_t first) {
    found.n = 0;
    if (first < task.key_end) found.find(call, task, first, std::min(kTileKeys, task.key_end - first));
  };
  whole.clear(count, call);
  find(rows[0], task.key_begin);
  rows[0].fetch_all(fetched_width(call, task));
  for (int64_t begin = task.key_begin, i = 0; begin < task.key_end; begin += kStretchKeys) {
    stretch.clear(count, call);
    const int64_t end = std::min(task.key_end, begin + kStretchKeys);
    for (int64_t first = begin; first < end; first += kTileKeys, i ^= 1) {
      find(rows[i ^ 1], first + kTileKeys);
      tile.take(rows[i], rows[i ^ 1]);
      for (int64_t x = 0; x < count; x += 4)
        with_count(count - x,
                   [&](auto n_lanes) { take_tile<n_lanes()>(call, lanes, task, x, first, rows[i].n, tile, stretch); });
    }
    combine(whole, stretch, count, call);
  }
  if (task.partial == nullptr) {
    write<T>(call, task, whole);
  } else {
    std::copy(whole.largest, whole.largest + State::size(count, call), task.partial);
  }
}

template <class T>
void float_forward_combine(const AttentionCall& call, const AttentionTask* tasks, int64_t parts, float* scratch) {
  const int64_t count = tasks[0].lane_end - tasks[0].lane_begin;
  const State whole(scratch, count);
  whole.clear(count, call);
  for (int64_t part = 0; part < parts; ++part) combine(whole, State(tasks[part].partial, count), count, call);
  write<T>(call, tasks[0], whole);
}

template void float_forward<float>(const AttentionCall&, const AttentionTask&, float*);
template void float_forward<bfloat16>(const AttentionCall&, const AttentionTask&, float*);
template void float_forward_combine<float>(const AttentionCall&, const AttentionTask*, int64_t, float*);
template void float_forward_combine<bfloat16>(const AttentionCall&, const AttentionTask*, int64_t, float*);

}  // namespace mor::MOR_CPU_ISA
