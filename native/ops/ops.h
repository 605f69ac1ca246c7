// Ops: everything that a device computes, forward and backward. CpuOps, CudaOps and RefOps implement it; ops/ref/ is
// the specification of every op. Must not know of models, routing policies, training or serving.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/logit_edit.h"
#include "core/tensor.h"
#include "core/token_logprob.h"
#include "ops/rows.h"

namespace mor {

enum class Activation : uint8_t { sigmoid, tanh, softmax };

/// One parameter as the optimiser needs it: a stretch of the flat buffers of masters, gradients and moments, and where
/// its weights lie.
struct ParameterSegment {
  int64_t offset = 0;  ///< elements into the flat buffers
  int64_t count = 0;
  int64_t weight_offset = 0;       ///< bytes into the weights
  DType storage = DType::float32;  ///< of the weights: float32, bfloat16 or the master dtype
  float weight_decay = 0;          ///< decoupled, per unit of learning rate
  float learning_rate_scale = 1;   ///< 10 for auxiliary routers (docs/model.md section 3)
};

struct AdamWParams {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double gradient_clip = 1;  ///< 0: no clipping
};

struct DistillationParams {
  double temperature = 1;       ///< above 0; divides the logits of both models
  double loss_scale = 1;        ///< factor of every cross-entropy
  double divergence_scale = 0;  ///< factor of every divergence
};

/// What changes from one optimiser step to the next. It lies in device memory, so that recorded work reads the values
/// of the step it is run for. adamw_step (ops/adamw_step.h) makes it.
struct AdamWStep {
  double learning_rate = 0;
  double correction1 = 1, correction2 = 1;  ///< 1 / (1 - beta^step), steps counted from 1
};

/// How one row of logits becomes a token. Draws depend on (seed, counter) alone, never on batch neighbours.
struct SamplingParams {
  float temperature = 0;  ///< 0: greedy, ties to the smaller id
  int32_t top_k = 0;      ///< 0: off
  float top_p = 1;        ///< 1: off
  float min_p = 0;        ///< least probability of a token, relative to that of the most likely one; 0: off
  uint64_t seed = 0;
  uint64_t counter = 0;      ///< index of the token in its request
  int32_t top_logprobs = 0;  ///< most likely tokens to list, at most kMostTopLogprobs
  /// [edit_count] what changes the logits that the draw is made from, in rising order of tokens; host memory.
  const LogitEdit* edits = nullptr;
  int32_t edit_count = 0;
  int32_t given = -1;  ///< the token to take instead of a drawn one; -1: none
};

/// The parameters of qkv as weights (compute dtype) or as their gradients (master dtype). All but `weight` may be
/// empty, and among gradients `weight` too.
struct QkvTensors {
  Tensor weight = {};               ///< [(h+2kv)*hd, d], rows of q's heads, then k's, then v's; [h*hd, d]: queries only
  Tensor bias = {};                 ///< [(h+2kv)*hd] or [h*hd]
  Tensor q_norm = {}, k_norm = {};  ///< [hd] RMSNorm over each head of q and of k (Qwen3); both or neither

  QkvTensors queries_only(int64_t query_size) const {
    return {weight ? weight.slice(0, query_size) : weight, bias ? bias.slice(0, query_size) : bias, q_norm, k_norm};
  }
};

/// q, k and v beside each other, in one buffer or its gradient.
struct QkvHeads {
  Tensor q, k, v;  ///< [R,h,hd], [R,kv,hd] twice; k and v are empty if the buffer holds queries only
};
/// qkv: [R, (h+2kv)*hd], or [R, h*hd] with queries only. query_size: h*hd.
inline QkvHeads qkv_heads(const Tensor& qkv, int64_t query_size, int64_t head_dim) {
  const int64_t key_value_size = (qkv.columns() - query_size) / 2;
  QkvHeads heads{qkv.column_range(0, query_size).heads(head_dim).named("q"), {}, {}};
  if (key_value_size == 0) return heads;
  heads.k = qkv.column_range(query_size, key_value_size).heads(head_dim).named("k");
  heads.v = qkv.column_range(query_size + key_value_size, key_value_size).heads(head_dim).named("v");
  return heads;
}

/// Work that a device has recorded in order to run it again. Ops::replay makes it; it must be destroyed before that
/// Ops.
class Recording {
 public:
  virtual ~Recording() = default;
};
/// Everything that recorded work depends on, except the contents of device memory: addresses, shapes, counts.
using RecordingKey = std::vector<uint64_t>;

/// Conventions.
/// - "compute" is compute_dtype(): weights, activations and their gradients. "master" is master_dtype(): parameter
///   gradients, optimiser state, router scores, statistics, losses; float32 on real devices.
/// - R rows, d hidden, f feed-forward, h / kv query / key-value heads, hd head dim, V vocabulary, N recursions.
/// - Write rule: parameter gradients (d_weight) and gradients of things that several consumers share (residual stream,
///   keys, values, scores) ACCUMULATE (+=), and the caller zeroes them; every other output is overwritten.
///   Each tensor below says which by "+=" or "=".
/// - Everything is asynchronous towards the host unless it returns a value; order is program order.
/// - Shapes are checked; a mismatch throws INVALID_ARGUMENT with both values. Zero rows are legal everywhere.
/// - Deterministic: the same inputs on the same device with the same number of threads give the same bits.
/// - linear_forward, qkv_forward, rmsnorm, rotary, swiglu and attention_forward in float32 compute each row
///   independently of how many rows stand beside it, bit for bit: a request in a batch gets what it would get alone.
class Ops : public MemoryResource {
 public:
  virtual const char* name() const = 0;
  virtual DType compute_dtype() const = 0;
  virtual DType master_dtype() const = 0;

  /// Has the same effect as work(). A device that can record calls work() the first two times in a row that it is given
  /// one key, and records into `recording` what the second call launches. From then on it launches the same kernels
  /// with the same arguments, without calling work(); they read whatever their memory holds at that time. Therefore
  /// work() must not wait for the device or copy bytes between host and device, its second call must not allocate, and
  /// what it leaves on the host may depend on the key only. If work() throws, nothing is recorded, and the exception
  /// passes on.
  virtual void replay(std::unique_ptr<Recording>& /*recording*/, const RecordingKey& /*key*/,
                      const std::function<void()>& work) {
    work();
  }
  /// Whether `replay` records. If it does not, there is no use in giving work equal shapes (by padding it, say).
  virtual bool records() const { return false; }

#define MOR_OP(result, name, parameters) virtual result name parameters = 0
#include "ops/op_list.h"
};

/// Zeroes a contiguous tensor.
inline void zero(Ops& ops, const Tensor& tensor) {
  ops.zero(tensor.data, static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype));
}

}  // namespace mor
