// Attention in float arithmetic, for float32, and for bfloat16 without tiles or of few rows: what
// attention_float_forward.cpp and attention_float_backward.cpp implement.
#pragma once

#include "cpu/attention_tasks.h"

namespace mor::MOR_CPU_ISA {

constexpr int64_t kFloatLanes = 64;  ///< most lanes of a forward task
/// Keys whose softmax is computed in one go; the results of several such stretches are combined in order. The bits of a
/// row's result depend on this number, so it is the same for one row and for many, split over threads or not.
constexpr int64_t kStretchKeys = 512;

/// The floats of scratch memory that a thread needs, and those of the partial result of a task in a set.
int64_t float_forward_scratch(const AttentionCall& call);
int64_t float_forward_partial(const AttentionCall& call);
template <class T>
void float_forward(const AttentionCall& call, const AttentionTask& task, float* scratch);
/// Combines the partial results of tasks[0 .. parts), which are stretches of the same lanes, and writes the output.
template <class T>
void float_forward_combine(const AttentionCall& call, const AttentionTask* tasks, int64_t parts, float* scratch);

/// lanes: the most lanes of one task.
int64_t float_backward_scratch(const AttentionCall& call, int64_t lanes);
/// Writes d_q, and the task's share of d_k and d_v, [keys, padded_dim] each, to d_keys and d_values.
template <class T>
void float_backward(const AttentionCall& call, const AttentionTask& task, float* d_keys, float* d_values,
                    float* scratch);

}  // namespace mor::MOR_CPU_ISA
