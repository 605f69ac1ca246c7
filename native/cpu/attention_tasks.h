// How a call of attention is cut into pieces of work of about equal size, and how a team works them off. The cut
// depends on the geometry alone, so every sum is made in the same order whatever the team. Must not know of kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/tensor.h"
#include "ops/rows.h"

namespace mor::MOR_CPU_ISA {

/// The tensors of one call; those that a direction does not use are empty.
struct AttentionCall {
  Tensor q, k, v, out, lse;     ///< [R,h,hd], [slots,kv,hd] twice, [R,h,hd], [R,h] float32
  Tensor d_out, d_q, d_k, d_v;  ///< backward
  Rows rows;
  int64_t heads, key_heads, head_dim, group;  ///< group = heads / key_heads
  int64_t padded_dim;                         ///< head_dim rounded up to 32, the depth of a bf16 tile
  float scale;                                ///< 1 / sqrt(head_dim)
  bool sequence_by_sequence;                  ///< forward: each thread takes all key heads of its sequences in turn
};

/// The query heads that share a key head stand side by side: lane x of (sequence, key head) is row x / group of the
/// sequence and head x % group of the group. Visible keys never decrease from lane to lane.
struct Lanes {
  const AttentionCall& call;
  int64_t first_row, key_head;
  Lanes(const AttentionCall& c, int64_t sequence, int64_t b)
      : call(c), first_row(c.rows.start[sequence]), key_head(b) {}

  int64_t row(int64_t x) const { return first_row + x / call.group; }
  int64_t head(int64_t x) const { return key_head * call.group + x % call.group; }
  int64_t visible(int64_t x) const { return call.rows.visible[row(x)]; }
  /// Lane x of a tensor [R,h,hd] or [R,h].
  template <class T>
  T* at(const Tensor& tensor, int64_t x) const {
    return static_cast<T*>(tensor.data) + row(x) * tensor.row_stride + head(x) * (tensor.rank == 3 ? call.head_dim : 1);
  }
};

/// Lanes [lane_begin, lane_end) of one (sequence, key head), over keys [key_begin, key_end).
struct AttentionTask {
  int64_t sequence, key_head, lane_begin, lane_end, key_begin, key_end;
  bool tiles = false;        ///< for the AMX kernel
  int64_t set = -1;          ///< tasks whose partial results are added up by the last of them to finish; -1: none
  int64_t part = 0;          ///< which of the set
  float* partial = nullptr;  ///< where the partial results of a set's tasks go
};

/// Tasks that share one result. The last to finish combines the parts, in their order.
struct AttentionSet {
  int64_t first = 0, parts = 0;  ///< tasks [first, first + parts)
  std::unique_ptr<std::atomic<int64_t>> running;
  /// True for the last of the set's tasks to finish.
  bool finished() const { return running->fetch_sub(1, std::memory_order_acq_rel) == 1; }
};

/// Elements of a key's row that a forward task should fetch ahead. The heads of a key lie side by side, and memory
/// likes to be read in one go: the first head of a sequence fetches for the others, which find theirs in the cache.
inline int64_t fetched_width(const AttentionCall& call, const AttentionTask& task) {
  if (!call.sequence_by_sequence) return call.head_dim;
  return task.key_head == 0 ? call.key_heads * call.head_dim : 0;
}

struct AttentionPlan {
  std::vector<AttentionTask> tasks;
  std::vector<AttentionSet> sets;
  int64_t pairs = 0;  ///< (lane, key) pairs of all tasks
  int64_t keys = 0;   ///< keys of all tasks, counted once a task

  void add(const AttentionTask& task) {
    tasks.push_back(task);
    pairs += (task.lane_end - task.lane_begin) * (task.key_end - task.key_begin);
    keys += task.key_end - task.key_begin;
  }
  /// Makes the tasks from `first` on one set.
  void join(int64_t first) {
    const int64_t n = static_cast<int64_t>(tasks.size());
    AttentionSet set{first, n - first, std::make_unique<std::atomic<int64_t>>(n - first)};
    for (int64_t i = first; i < n; ++i) {
      tasks[i].set = static_cast<int64_t>(sets.size());
      tasks[i].part = i - first;
    }
    sets.push_back(std::move(set));
  }
};

/// (lane, key) pairs of the whole call.
inline int64_t count_pairs(const AttentionCall& call) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < call.rows.count; ++i) pairs += call.rows.visible[i];
  return pairs * call.heads;
}

/// Appends the lanes of one (sequence, key head) in tasks of about `target` pairs, each a whole multiple of `grain`
/// lanes; target 0: of `grain` lanes each.
inline void cut_lanes(const AttentionCall& call, int64_t sequence, int64_t key_head, int64_t grain, int64_t target,
                      bool tiles, AttentionPlan& plan) {
  const Lanes lanes(call, sequence, key_head);
  const int64_t count = (call.rows.start[sequence + 1] - call.rows.start[sequence]) * call.group;
  int64_t all = 0;
  for (int64_t x = 0; x < count; x += grain) all += lanes.visible(std::min(count, x + grain) - 1);
  const int64_t pieces = target == 0 ? 0 : std::max<int64_t>(1, (all * grain + target / 2) / target);
  int64_t begin = 0, done = 0, piece = 1;
  for (int64_t x = 0; x < count; x += grain) {
    const int64_t end = std::min(count, x + grain);
    done += lanes.visible(end - 1);
    if (target > 0 && end < count && done * pieces < all * piece) continue;
    plan.add({sequence, key_head, begin, end, 0, lanes.visible(end - 1), tiles});
    begin = end;
    while (done * pieces >= all * piece && piece < pieces) ++piece;
  }
}

/// Hands out the tasks. Each member of the team has a run of the (sequence, key head)s of its own first, so that what
/// it packed for one task serves the next and the key heads of a sequence, which lie side by side, pass through one
/// cache; and then takes from the others. Who runs a task does not matter for its result.
class TaskQueue {
 public:
  TaskQueue(const AttentionPlan& plan, int64_t team) : hands_(team) {
    std::vector<int64_t> first;  // task of each (sequence, key head)
    for (size_t i = 0; i < plan.tasks.size(); ++i)
      if (i == 0 || plan.tasks[i].sequence != plan.tasks[i - 1].sequence ||
          plan.tasks[i].key_head != plan.tasks[i - 1].key_head)
        first.push_back(static_cast<int64_t>(i));
    const int64_t pairs = static_cast<int64_t>(first.size());
    first.push_back(static_cast<int64_t>(plan.tasks.size()));
    for (int64_t pair = 0; pair < pairs; ++pair)
      for (int64_t i = first[pair]; i < first[pair + 1]; ++i)
        hands_[pair * team / pairs].tasks.push_back(&plan.tasks[i]);
  }
  /// The next task for this member, null when all are taken.
  const AttentionTask* next(int64_t member) {
    const int64_t team = static_cast<int64_t>(hands_.size());
    for (int64_t i = 0; i < team; ++i) {
      Hand& hand = hands_[(member + i) % team];
      if (hand.taken.load(std::memory_order_relaxed) >= hand.tasks.size()) continue;
      const size_t taken = hand.taken.fetch_add(1, std::memory_order_relaxed);
      if (taken < hand.tasks.size()) return hand.tasks[taken];
    }
    return nullptr;
  }

 private:
  struct alignas(64) Hand {
    std::vector<const AttentionTask*> tasks;
    std::atomic<size_t> taken{0};
  };
  std::vector<Hand> hands_;
};

}  // namespace mor::MOR_CPU_ISA
