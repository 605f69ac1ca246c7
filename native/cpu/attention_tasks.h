// How a call of attention is cut into tasks of about equal size, and how threads share them out. Where a sum is cut
// depends on the shapes alone, so it has the same order with any number of threads.
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
  bool amx;                                   ///< whether AMX may be used
  bool sequence_by_sequence;                  ///< forward: each thread takes all key heads of a sequence in a row
};

/// A lane is one row of a sequence with one of the query heads that share a key head: lane x of (sequence, key head) is
/// row x / group of the sequence with head x % group of the group. The number of visible keys never falls from lane to
/// lane.
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

/// Attention of lanes [lane_begin, lane_end) of one (sequence, key head) over keys [key_begin, key_end).
struct AttentionTask {
  int64_t sequence, key_head, lane_begin, lane_end, key_begin, key_end;
  bool tiles = false;        ///< whether the kernel of bfloat16 tiles runs it
  int64_t set = -1;          ///< index of its AttentionSet; -1: none
  int64_t part = 0;          ///< its number in the set
  float* partial = nullptr;  ///< where a task of a set writes its partial result
};

/// Tasks whose partial results make one result. The task that finishes last combines them in their order.
struct AttentionSet {
  int64_t first = 0, parts = 0;  ///< tasks [first, first + parts)
  std::unique_ptr<std::atomic<int64_t>> running;
  /// To be called once by each task at its end; true for the last one.
  bool finished() const { return running->fetch_sub(1, std::memory_order_acq_rel) == 1; }
};

/// How many elements of a key's row a forward task should prefetch. The heads of a key are neighbours in memory, which
/// is fastest when read in one go: so the first head of a sequence prefetches for the others too.
inline int64_t fetched_width(const AttentionCall& call, const AttentionTask& task) {
  if (!call.sequence_by_sequence) return call.head_dim;
  return task.key_head == 0 ? call.key_heads * call.head_dim : 0;
}

struct AttentionPlan {
  std::vector<AttentionTask> tasks;
  std::vector<AttentionSet> sets;
  int64_t pairs = 0;  ///< (lane, key) pairs of all tasks
  int64_t keys = 0;   ///< keys of all tasks, once for each task

  void add(const AttentionTask& task) {
    tasks.push_back(task);
    pairs += (task.lane_end - task.lane_begin) * (task.key_end - task.key_begin);
    keys += task.key_end - task.key_begin;
  }
  /// Makes one set of the tasks from `first` on.
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

/// Appends the lanes of one (sequence, key head) as tasks of about `target` (lane, key) pairs, each a multiple of
/// `grain` lanes. With target 0 each task has `grain` lanes.
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

/// Hands out the tasks. Each thread first takes (sequence, key head) pairs of its own: then keys that it packed for one
/// task serve the next, and the key heads of a sequence, which are neighbours in memory, share one cache. After that it
/// takes tasks of other threads. Results do not depend on which thread runs a task.
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
  /// The next task for thread `member`, or null when all are taken.
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
