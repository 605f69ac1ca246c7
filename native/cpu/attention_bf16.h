// Attention in tiles of bfloat16, which AMX or VDPBF16PS multiplies: what attention_bf16_forward.cpp and
// attention_bf16_backward.cpp implement.
//
// Forward and backward work on transposed scores: a row is a key, a column is a lane. Everything that softmax needs of
// a lane (its maximum, its lse, how many keys it sees) is then one element of a vector, and nothing is summed across
// one.
#pragma once

#include "cpu/attention_bf16_tiles.h"
#include "cpu/attention_tasks.h"

namespace mor::MOR_CPU_ISA {

#if defined(__AVX512BF16__)

constexpr bool kBf16Tiles = true;  ///< whether this build has these kernels

/// The forward of one thread. Packed keys and values are kept for the next task if it has the same key head.
class Bf16Forward {
 public:
  /// The floats of scratch memory that a thread needs. keys: the most keys of one task, a multiple of 32.
  static int64_t scratch(const AttentionCall& call, int64_t keys);
  Bf16Forward(const AttentionCall& call, float* scratch, int64_t keys);
  void run(const AttentionTask& task);

 private:
  static constexpr int64_t kBlockKeys = 64, kBlockLanes = 32;

  void load_lanes(const AttentionTask& task, int64_t first, int64_t count);
  void multiply_keys(int64_t first, int64_t n, float* scores) const;
  void softmax(int64_t first, int64_t n, float* scores);
  void multiply_values(int64_t first, int64_t n) const;
  void write(const AttentionTask& task, int64_t first, int64_t count);

  const AttentionCall& call_;
  int64_t depth_;  ///< padded_dim / 32
  PackedKeys packed_;
  bfloat16 *keys_, *values_transposed_, *q_columns_, *weights_, *staged_;
  float* scores_[2];
  float* sum_;  ///< [padded_dim, lanes]
  struct alignas(64) {
    int32_t visible[kBlockLanes];
    float largest[kBlockLanes], total[kBlockLanes];  ///< largest: in units of log 2
  } lane_;
  int64_t least_visible_, most_visible_;  ///< fewest and most keys that a lane of the block sees
  TileProducts products_;
};

/// The backward of one thread. Packed keys and values are kept in the same way.
class Bf16Backward {
 public:
  static int64_t scratch(const AttentionCall& call, int64_t keys);
  Bf16Backward(const AttentionCall& call, float* scratch, int64_t keys);
  /// Writes d_q, and the task's share of d_k and d_v, [keys rounded up to 32, padded_dim] each.
  void run(const AttentionTask& task, float* d_keys, float* d_values);

 private:
  static constexpr int64_t kBlockKeys = 64, kBlockLanes = 128;
  static constexpr int64_t kKeySteps = kBlockKeys / 32, kLaneSteps = kBlockLanes / 32;

  void load_lanes(const AttentionTask& task, int64_t first, int64_t count);
  void take_keys(int64_t first, float* d_keys, float* d_values);
  void multiply_scores(int64_t first, int64_t p, int64_t w, int64_t buffer) const;
  void differentiate(int64_t first, int64_t p, int64_t w, int64_t buffer) const;
  void write(const AttentionTask& task, int64_t first, int64_t count) const;

  const AttentionCall& call_;
  int64_t depth_;
  PackedKeys packed_;
  bfloat16 *keys_, *keys_transposed_, *values_;
  bfloat16 *q_columns_, *q_pairs_, *d_out_columns_, *d_out_pairs_, *staged_;
  bfloat16 *weights_, *d_scores_, *d_scores_pairs_;
  float *scores_[2], *d_weights_[2];
  float* d_q_;  ///< [padded_dim, kBlockLanes]
  struct alignas(64) {
    int32_t visible[kBlockLanes];
    float lse[kBlockLanes], delta[kBlockLanes];  ///< lse: in units of log 2
  } lane_;
  int64_t lane_steps_;  ///< groups of 32 lanes in the current block
  int64_t least_visible_[kLaneSteps], most_visible_[kLaneSteps];
  TileProducts products_;
};

#else

constexpr bool kBf16Tiles = false;

/// Builds without tiles have no task that uses them.
struct Bf16Forward {
  static int64_t scratch(const AttentionCall&, int64_t) { return 0; }
  Bf16Forward(const AttentionCall&, float*, int64_t) {}
  void run(const AttentionTask&) {}
};
struct Bf16Backward {
  static int64_t scratch(const AttentionCall&, int64_t) { return 0; }
  Bf16Backward(const AttentionCall&, float*, int64_t) {}
  void run(const AttentionTask&, float*, float*) {}
};

#endif

}  // namespace mor::MOR_CPU_ISA
