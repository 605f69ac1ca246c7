// attention on the CPU: cuts a call into tasks, which the team runs, each with the kernel that fits (float arithmetic,
// or tiles for bfloat16 and many rows).
#include "ops/checks/attention.h"

#include <cmath>

#include "cpu/attention_bf16.h"
#include "cpu/attention_float.h"
#include "cpu/attention_tile.h"
#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kPieces = 32;            // a call is cut into about so many tasks, …
constexpr int64_t kLeastPairs = 32 << 10;  // … but none smaller than this many (lane, key) pairs, and …
constexpr int64_t kLaneGrain = 32;         // … in multiples of this many lanes
constexpr int64_t kAmxRowsLeast = 8;       // a sequence with fewer rows is faster without tiles; …
constexpr int64_t kPairRowsLeast = 24;     // … and where VDPBF16PS multiplies them, with fewer than these

AttentionCall make_call(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                        const Tensor& lse, bool amx) {
  AttentionCall call = {};
  call.amx = amx;
  call.q = q;
  call.k = k;
  call.v = v;
  call.out = out;
  call.lse = lse;
  call.rows = rows;
  call.heads = q.shape[1];
  call.key_heads = k.shape[1];
  call.head_dim = q.shape[2];
  call.group = call.heads / call.key_heads;
  call.padded_dim = (call.head_dim + 31) / 32 * 32;
  call.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(call.head_dim)));
  return call;
}

bool use_tiles(const AttentionCall& call, int64_t sequence) {
  return kBf16Tiles && call.q.dtype == DType::bfloat16 &&
         call.rows.start[sequence + 1] - call.rows.start[sequence] >= (call.amx ? kAmxRowsLeast : kPairRowsLeast);
}

/// Splits the keys of a plan's long float tasks, so that there is work for more threads than the plan has tasks.
AttentionPlan split_keys(const AttentionPlan& plan) {
  AttentionPlan split;
  for (const AttentionTask& task : plan.tasks) {
    const int64_t first = static_cast<int64_t>(split.tasks.size());
    if (task.tiles || task.key_end <= kStretchKeys) {
      split.add(task);
      continue;
    }
    for (int64_t begin = 0; begin < task.key_end; begin += kStretchKeys) {
      AttentionTask stretch = task;
      stretch.key_begin = begin;
      stretch.key_end = std::min(task.key_end, begin + kStretchKeys);
      split.add(stretch);
    }
    split.join(first);
  }
  return split;
}

AttentionPlan plan_forward(const AttentionCall& call, int threads) {
  AttentionPlan plan;
  const int64_t target = std::max(kLeastPairs, count_pairs(call) / kPieces);
  for (int64_t s = 0; s < call.rows.key_lists; ++s) {
    const bool tiles = use_tiles(call, s);
    for (int64_t b = 0; b < call.key_heads; ++b)
      cut_lanes(call, s, b, tiles ? kLaneGrain : kFloatLanes, tiles ? target : 0, tiles, plan);
  }
  return static_cast<int64_t>(plan.tasks.size()) < 2 * threads && threads > 1 ? split_keys(plan) : std::move(plan);
}

AttentionPlan plan_backward(const AttentionCall& call) {
  AttentionPlan plan;
  const int64_t target = std::max(kLeastPairs, count_pairs(call) / kPieces);
  for (int64_t s = 0; s < call.rows.key_lists; ++s)
    for (int64_t b = 0; b < call.key_heads; ++b) {
      const int64_t first = static_cast<int64_t>(plan.tasks.size());
      cut_lanes(call, s, b, kLaneGrain, target, use_tiles(call, s), plan);
      if (static_cast<int64_t>(plan.tasks.size()) > first + 1) plan.join(first);
    }
  return plan;
}

/// A rough time in nanoseconds, which decides whether the team is worth waking.
int64_t forward_cost(const AttentionCall& call, const AttentionPlan& plan) {
  return (plan.pairs / 32 + plan.keys / 4) * call.padded_dim;
}

int64_t most_keys(const AttentionPlan& plan, bool only_tiles) {
  int64_t most = 0;
  for (const AttentionTask& task : plan.tasks)
    if (task.tiles || !only_tiles) most = std::max(most, task.key_end);
  return (most + kTileKeys - 1) / kTileKeys * kTileKeys;
}
/// Most lanes of a float task.
int64_t most_lanes(const AttentionPlan& plan) {
  int64_t most = 0;
  for (const AttentionTask& task : plan.tasks)
    if (!task.tiles) most = std::max(most, task.lane_end - task.lane_begin);
  return most;
}
bool any_tiles(const AttentionPlan& plan) {
  return std::any_of(plan.tasks.begin(), plan.tasks.end(), [](const AttentionTask& task) { return task.tiles; });
}

/// Adds to a gradient what the tasks of one (sequence, key head) have summed: for each key the parts in their order.
template <class T>
void add_key_gradient(const AttentionCall& call, const AttentionTask* tasks, int64_t parts, const float* const* found,
                      const Tensor& gradient) {
  const int64_t keys = tasks[parts - 1].key_end, dims = call.padded_dim;
  for (int64_t first = 0; first < keys; first += kTileKeys) {
    const int64_t n = std::min(kTileKeys, keys - first);
    T* row[kTileKeys];
    find_keys(call, gradient, tasks[0].sequence, tasks[0].key_head, first, n, row);
    for (int64_t j = 0; j < n; ++j)
      for_lanes(call.head_dim, [&](int64_t c, auto lanes) {
        Vec sums = {};
        for (int64_t part = 0; part < parts; ++part)
          if (first + j < tasks[part].key_end) sums += load(found[part] + (first + j) * dims + c);
        lanes.store(row[j] + c, lanes.load(row[j] + c) + sums);
      });
  }
}

template <class T>
void add_key_gradients(const AttentionCall& call, const AttentionTask* tasks, int64_t parts,
                       std::vector<const float*> d_keys, std::vector<const float*> d_values) {
  add_key_gradient<T>(call, tasks, parts, d_keys.data(), call.d_k);
  add_key_gradient<T>(call, tasks, parts, d_values.data(), call.d_v);
}

}  // namespace

void CpuOps::attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                               const Tensor& lse) {
  check_attention_forward(q, k, v, rows, out, lse);
  check_dtype("attention_forward", q, compute_);
  AttentionCall call = make_call(q, k, v, rows, out, lse, tiles_);
  call.sequence_by_sequence = rows.key_lists >= 2 * threads_;
  AttentionPlan plan = plan_forward(call, threads_);
  const int64_t team = std::min<int64_t>(threads_, static_cast<int64_t>(plan.tasks.size()));
  if (team == 0) return;

  const ArenaScope scope(scratch_);
  const int64_t simple = float_forward_scratch(call);
  const int64_t tile_keys = most_keys(plan, true);
  const int64_t size = simple + (any_tiles(plan) ? Bf16Forward::scratch(call, tile_keys) : 0);
  float* scratch = scratch_.tensor(DType::float32, team, size, "attention scratch").as<float>();
  for (AttentionTask& task : plan.tasks)
    if (task.set >= 0)
      task.partial = scratch_.vector(DType::float32, float_forward_partial(call), "partial attention").as<float>();

  TaskQueue queue(plan, team);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(team, forward_cost(call, plan) / team, [&](int64_t begin, int64_t) {
      float* mine = scratch + begin * size;
      Bf16Forward tiles(call, mine + simple, tile_keys);
      while (const AttentionTask* task = queue.next(begin)) {
        if (task->tiles) {
          tiles.run(*task);
          continue;
        }
        float_forward<T>(call, *task, mine);
        if (task->set < 0) continue;
        const AttentionSet& set = plan.sets[task->set];
        if (set.finished()) float_forward_combine<T>(call, &plan.tasks[set.first], set.parts, mine);
      }
    });
  });
}

void CpuOps::attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v,
                                const Tensor& out, const Tensor& lse, const Rows& rows, const Tensor& d_q,
                                const Tensor& d_k, const Tensor& d_v) {
  check_attention_backward(d_out, q, k, v, out, lse, rows, d_q, d_k, d_v);
  check_dtype("attention_backward", q, compute_);
  AttentionCall call = make_call(q, k, v, rows, out, lse, tiles_);
  call.d_out = d_out;
  call.d_q = d_q;
  call.d_k = d_k;
  call.d_v = d_v;
  AttentionPlan plan = plan_backward(call);
  const int64_t team = std::min<int64_t>(threads_, static_cast<int64_t>(plan.tasks.size()));
  if (team == 0) return;

  // The scratch of a task holds d_keys and then d_values. Each task of a set has its own; other tasks use their
  // thread's.
  const ArenaScope scope(scratch_);
  const int64_t keys = most_keys(plan, false), gradient = keys * call.padded_dim;
  const int64_t simple = 2 * gradient + float_backward_scratch(call, most_lanes(plan));
  const int64_t size = simple + (any_tiles(plan) ? Bf16Backward::scratch(call, keys) : 0);
  float* scratch = scratch_.tensor(DType::float32, team, size, "attention scratch").as<float>();
  for (AttentionTask& task : plan.tasks)
    if (task.set >= 0) task.partial = scratch_.vector(DType::float32, 2 * gradient, "partial d_k, d_v").as<float>();

  TaskQueue queue(plan, team);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel(team, 3 * forward_cost(call, plan) / team, [&](int64_t begin, int64_t) {
      float* mine = scratch + begin * size;
      Bf16Backward tiles(call, mine + simple, keys);
      while (const AttentionTask* task = queue.next(begin)) {
        float* d_keys = task->partial != nullptr ? task->partial : mine;
        if (task->tiles) {
          tiles.run(*task, d_keys, d_keys + gradient);
        } else {
          float_backward<T>(call, *task, d_keys, d_keys + gradient, mine + 2 * gradient);
        }
        if (task->set < 0) {
          add_key_gradients<T>(call, task, 1, {d_keys}, {d_keys + gradient});
          continue;
        }
        const AttentionSet& set = plan.sets[task->set];
        if (!set.finished()) continue;
        std::vector<const float*> all_keys, all_values;
        for (int64_t part = 0; part < set.parts; ++part) {
          all_keys.push_back(plan.tasks[set.first + part].partial);
          all_values.push_back(all_keys.back() + gradient);
        }
        add_key_gradients<T>(call, &plan.tasks[set.first], set.parts, all_keys, all_values);
      }
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
