// Ops: everything a device can do, forward and backward. CpuOps, CudaOps and RefOps implement it; ops/ref/ is the
// specification of every op. Must not know of models, routers' policies, training or serving.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/tensor.h"
#include "core/token_logprob.h"
#include "ops/rows.h"

namespace mor {

enum class Activation : uint8_t { sigmoid, tanh, softmax };

/// One parameter's stretch of the flat parameter buffers, as the optimiser needs it.
struct ParameterSegment {
  int64_t offset = 0;  ///< elements
  int64_t count = 0;
  float weight_decay = 0;         ///< decoupled, per unit of learning rate
  float learning_rate_scale = 1;  ///< 10 for auxiliary routers (docs/model.md section 3)
};

struct AdamWParams {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double gradient_clip = 1;  ///< 0: no clipping
};

/// What changes from one optimiser step to the next. Lies in device memory, so that a recorded step follows it; made by
/// adamw_step (ops/adamw.h).
struct AdamWStep {
  double learning_rate = 0;
  double correction1 = 1, correction2 = 1;  ///< 1 / (1 - beta^step), steps counted from 1
};

/// How one row of logits becomes a token. Draws depend on (seed, counter) alone, never on batch neighbours.
struct SamplingParams {
  float temperature = 0;  ///< 0: greedy, ties to the smaller id
  int32_t top_k = 0;      ///< 0: off
  float top_p = 1;        ///< 1: off
  uint64_t seed = 0;
  uint64_t counter = 0;      ///< index of the token in its request
  int32_t top_logprobs = 0;  ///< most likely tokens to list, at most kMostTopLogprobs
};

/// Work that a device has kept in order to run it again. Made by Ops::replay; destroyed before that Ops.
class Recording {
 public:
  virtual ~Recording() = default;
};
/// Everything beside the contents of device memory that recorded work depends on: addresses, shapes, counts.
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

  // ---- memory (allocate and release come from MemoryResource)
  virtual void copy_to_device(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_to_host(void* host, const void* device, size_t bytes) = 0;  ///< waits for the device
  virtual void copy(void* to, const void* from, size_t bytes) = 0;              ///< device to device
  virtual void zero(void* device, size_t bytes) = 0;
  virtual void synchronize() = 0;
  /// Does what work() does. A device that can record calls it at the first two meetings with a key in a row, and from
  /// then on repeats on its own what it saw, on what lies in the same memory by then; `recording` keeps that. So work
  /// neither waits nor moves bytes between host and device, allocates nothing at its second run, and leaves nothing
  /// else behind on the host than what the key decides. What it throws ends the recording, and is thrown on.
  virtual void replay(std::unique_ptr<Recording>& /*recording*/, const RecordingKey& /*key*/,
                      const std::function<void()>& work) {
    work();
  }
  /// Whether `replay` does so. Else nobody gains by work of equal shapes.
  virtual bool records() const { return false; }
  /// to = from, element by element, between any two of float32, bfloat16 and the master dtype; same shape.
  virtual void cast(const Tensor& from, const Tensor& to) = 0;

  // ---- embedding: out[i] = weight[tokens[i]]
  virtual void embedding_forward(const int32_t* tokens /*[R]*/, const Tensor& weight /*[V,d] compute*/,
                                 const Tensor& out /*[R,d] compute =*/) = 0;
  virtual void embedding_backward(const int32_t* tokens, const Tensor& d_out /*[R,d] compute*/,
                                  const Tensor& d_weight /*[V,d] master +=*/) = 0;

  // ---- rmsnorm (Zhang and Sennrich 2019) with row gather: packed[i] = x[source[i]],
  //      rstd[i] = 1/sqrt(mean(packed[i]^2) + epsilon), y[i] = packed[i] * rstd[i] * weight
  /// `packed` and `rstd` may be empty tensors where nobody needs them; source may be null (identity).
  virtual void rmsnorm_forward(const Tensor& x /*[M,d] compute*/, const int32_t* source /*[R]*/,
                               const Tensor& weight /*[d] compute*/, double epsilon, const Tensor& packed /*[R,d] =*/,
                               const Tensor& y /*[R,d] compute =*/, const Tensor& rstd /*[R] master =*/) = 0;
  virtual void rmsnorm_backward(const Tensor& d_y /*[R,d]*/, const Tensor& packed /*[R,d]*/, const Tensor& weight,
                                const Tensor& rstd, const Tensor& d_packed /*[R,d] compute +=*/,
                                const Tensor& d_weight /*[d] master +=*/) = 0;

  // ---- linear: y = x weight^T (+ residual)
  /// y is compute or master dtype. residual [R,n] compute may be empty, and may be y itself.
  virtual void linear_forward(const Tensor& x /*[R,k]*/, const Tensor& weight /*[n,k]*/, const Tensor& residual,
                              const Tensor& y /*[R,n] =*/) = 0;
  virtual void linear_backward_input(const Tensor& d_y /*[R,n]*/, const Tensor& weight /*[n,k]*/,
                                     const Tensor& d_x /*[R,k] compute =*/) = 0;
  virtual void linear_backward_weight(const Tensor& d_y /*[R,n]*/, const Tensor& x /*[R,k]*/,
                                      const Tensor& d_weight /*[n,k] master +=*/) = 0;

  // ---- rotary embedding (Su et al. 2021), "rotate halves": pair (j, j + hd/2) turned by table[position]
  /// In place. table [positions, hd] master: cosines of the hd/2 angles, then their sines. direction +1 forward,
  /// -1 backward (the rotation is orthogonal, so its gradient is the turn back).
  virtual void rotary(const Tensor& x /*[R,heads,hd] compute*/, const int32_t* position /*[R]*/, const Tensor& table,
                      int direction) = 0;

  // ---- qkv: attention's three projections, q and k turned, keys and values put where they are read
  /// linear_forward, rotary (direction +1) and kv_write in one, bit for bit: the columns of x weight^T, rounded to
  /// compute, are q's heads, then k's, then v's. q[i] and k[slot[i]] get theirs turned in master by table[position[i]]
  /// and rounded again, v[slot[i]] its own as it is. slot null: identity; slots are distinct, and negative where a
  /// row's key and value go nowhere. k and v empty: queries only, and weight has only q's rows. q, k and v may be
  /// columns of wider buffers.
  virtual void qkv_forward(const Tensor& x /*[R,d] compute*/, const Tensor& weight /*[(h+2kv)*hd,d] or [h*hd,d]*/,
                           const int32_t* position /*[R]*/, const Tensor& table /*[positions,hd] master*/,
                           const Tensor& q /*[R,h,hd] compute =*/, const Tensor& k /*[slots,kv,hd] compute =*/,
                           const Tensor& v /*[slots,kv,hd] compute =*/, const int32_t* slot /*[R]*/) = 0;

  // ---- attention over packed rows (docs/model.md sections 3 and 5): softmax(q k^T / sqrt(hd)) v, grouped query
  /// Query row i of sequence s sees the first rows.visible[i] keys of s (0 is legal: its output is 0). k, v are
  /// [slots,kv,hd]; query head j uses key head j / (h/kv). lse [R,h] master (log-sum-exp of the scaled scores) may be
  /// empty where no backward follows.
  virtual void attention_forward(const Tensor& q /*[R,h,hd]*/, const Tensor& k, const Tensor& v, const Rows& rows,
                                 const Tensor& out /*[R,h,hd] =*/, const Tensor& lse /*[R,h] master =*/) = 0;
  /// Only rows with block_size == 0 (keys of a sequence in one run), and runs that do not overlap.
  virtual void attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& out, const Tensor& lse, const Rows& rows, const Tensor& d_q /*=*/,
                                  const Tensor& d_k /*[slots,kv,hd] +=*/, const Tensor& d_v /*+=*/) = 0;

  // ---- kv_cache rows
  /// cache[slot[i]] = x[i]; slots are distinct; null: identity. x [R,kv,hd], cache [slots,kv,hd].
  virtual void kv_write(const Tensor& x, const int32_t* slot /*[R]*/, const Tensor& cache) = 0;
  /// Backward of kv_write: d_x[i] = d_cache[slot[i]], then d_cache[slot[i]] = 0 (what was overwritten got no gradient).
  virtual void kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x /*=*/) = 0;

  // ---- swiglu (Shazeer 2020): out = silu(gate) * up, gate and up being the halves of gate_up [R,2f]
  virtual void swiglu_forward(const Tensor& gate_up, const Tensor& out /*[R,f] =*/) = 0;
  virtual void swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up /*=*/) = 0;

  // ---- gelu, exact (erf)
  virtual void gelu_forward(const Tensor& x /*[R,n]*/, const Tensor& y /*=*/) = 0;
  virtual void gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x /*=*/) = 0;

  // ---- rows: gather, add, gated scatter
  /// y[i] = x[source[i]]; null: identity. x and y of one dtype, compute or master (here and in add_rows).
  virtual void gather_rows(const Tensor& x /*[M,d]*/, const int32_t* source /*[R]*/, const Tensor& y /*[R,d] =*/) = 0;
  /// y[source[i]] += x[i]; sources are distinct; null: identity.
  virtual void add_rows(const Tensor& x /*[R,d]*/, const int32_t* source, const Tensor& y /*[M,d] +=*/) = 0;
  /// stream[to[i]] += gate[i] * x[from[i]] for i < n. `from` null: identity. (docs/model.md section 3: x_t + g_t
  /// f(x)_t)
  virtual void scatter_gated_forward(const Tensor& x /*[R,d]*/, const int32_t* from /*[n]*/,
                                     const Tensor& gate /*[n] master*/, const int32_t* to /*[n]*/,
                                     const Tensor& stream /*[M,d] compute +=*/) = 0;
  /// d_gate[i] = <d_stream[to[i]], x[from[i]]>; d_x[from[i]] = gate[i] * d_stream[to[i]]; other rows of d_x untouched.
  virtual void scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                                      const Tensor& gate, const Tensor& d_x, const Tensor& d_gate /*[n] master =*/) = 0;

  // ---- router_scores: scores[i] = x[source[i]] weight^T for few outputs n (docs/model.md sections 3 and 4)
  virtual void router_scores_forward(const Tensor& x /*[M,d]*/, const int32_t* source /*[R]; null: identity*/,
                                     const Tensor& weight /*[n,d] compute*/,
                                     const Tensor& scores /*[R,n] master =*/) = 0;
  /// d_x[source[i]] += ..., d_weight += .... d_x may be empty (detached inputs of an auxiliary router).
  virtual void router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source,
                                      const Tensor& weight, const Tensor& d_x /*[M,d] compute +=*/,
                                      const Tensor& d_weight /*[n,d] master +=*/) = 0;

  // ---- router_gate: gate[i] = alpha * activation(scores[index[i]]) (sigmoid or tanh)
  virtual void router_gate_forward(const Tensor& scores /*[P] master*/, const int32_t* index /*[R]; null: identity*/,
                                   Activation activation, double alpha, const Tensor& gate /*[R] master =*/) = 0;
  /// d_scores[index[i]] += d_gate[i] * alpha * activation'(scores[index[i]])
  virtual void router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index,
                                    Activation activation, double alpha, const Tensor& d_scores /*[P] master +=*/) = 0;

  // ---- selection: which of the P parent rows run the next recursion
  /// Of every sequence the k rows with the largest score (ties to the earlier row), in row order; 1 <= k <= its rows.
  /// index [sequences * k] = parent rows, start [sequences+1] of the selection, selected [P] 0/1.
  virtual void select_topk(const Tensor& scores /*[P] master*/, const int32_t* parent_start, int32_t sequences,
                           int32_t k, int32_t* index, int32_t* start, uint8_t* selected) = 0;
  /// Rows with score >= threshold, in row order. Same outputs, index with room for P. Returns how many; waits.
  virtual int32_t select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences,
                                   double threshold, int32_t* index, int32_t* start, uint8_t* selected) = 0;
  /// Rows with low <= value <= high (token-choice depths). Same outputs. Returns how many; waits.
  virtual int32_t select_between(const int32_t* values /*[P]*/, int32_t rows /*P*/, const int32_t* parent_start,
                                 int32_t sequences, int32_t low, int32_t high, int32_t* index, int32_t* start,
                                 uint8_t* selected) = 0;
  /// to[i] = from[index[i]]
  virtual void gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) = 0;
  /// visible[i] = i - start[s] + 1 for row i of sequence s: every row sees its own sequence's rows up to itself.
  virtual void visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) = 0;
  /// Whole sequences of one length, row s * length + t being token t of sequence s: start[s] = s * length, position t,
  /// visible t + 1.
  virtual void equal_rows(int32_t sequences, int32_t length, int32_t* start /*[sequences+1]*/,
                          int32_t* position /*[sequences*length]*/, int32_t* visible /*[sequences*length]*/) = 0;
  /// sum[0] = values[0] + ... + values[n-1]
  virtual void sum_integers(const int32_t* values, int32_t n, int64_t* sum /*[1]*/) = 0;

  // ---- expert_choice_loss (docs/model.md section 3): BCEWithLogits against the selection, and z-loss
  /// sums[0] += sum of BCE(scores[i], selected[i]), sums[1] += sum of scores[i]^2,
  /// sums[2] += number of rows where (scores[i] >= threshold) == selected[i].
  /// d_scores[i] += bce_scale * (sigmoid(s) - selected) + z_scale * 2 s, unless d_scores is empty.
  virtual void expert_choice_loss(const Tensor& scores /*[P] master*/, const uint8_t* selected, double threshold,
                                  double bce_scale, double z_scale, const Tensor& sums /*[3] master +=*/,
                                  const Tensor& d_scores /*[P] master +=*/) = 0;

  // ---- token_choice (docs/model.md section 4)
  /// probabilities = alpha * activation(logits) (softmax or sigmoid); depth[i] = 1 + argmax_j(p_ij + bias_j), ties to
  /// the smaller; gate[i] = p[i, depth-1]; load[j] += rows whose depth is j+1; mean_p[j] += sum_i p_ij; z_sum[0] +=
  /// sum_i logsumexp(logits_i)^2.
  virtual void token_choice_forward(const Tensor& logits /*[R,N] master*/, const Tensor& bias /*[N] master*/,
                                    Activation activation, double alpha, const Tensor& probabilities /*[R,N] =*/,
                                    int32_t* depth /*[R]*/, const Tensor& gate /*[R] master =*/,
                                    const Tensor& load /*[N] master +=*/, const Tensor& p_sum /*[N] master +=*/,
                                    const Tensor& z_sum /*[1] master +=*/) = 0;
  /// Gradient of: sum_i d_gate[i] p[i,depth-1] + sum_ij p_scale[j] p_ij + z_scale * sum_i logsumexp_i^2.
  virtual void token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                                     const int32_t* depth, Activation activation, double alpha,
                                     const Tensor& p_scale /*[N] master*/, double z_scale,
                                     const Tensor& d_logits /*[R,N] master =*/) = 0;

  // ---- cross_entropy fused with the output projection: logits of the batch are never stored whole
  /// losses[i] = logsumexp_j(<x_i, weight_j>) - <x_i, weight_target>; target -1: ignored, loss 0.
  virtual void cross_entropy_forward(const Tensor& x /*[R,d]*/, const Tensor& weight /*[V,d]*/, const int32_t* target,
                                     const Tensor& losses /*[R] master =*/) = 0;
  /// Forward, and the gradient of scale * sum_i losses[i].
  virtual void cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                      const Tensor& losses /*[R] master =*/, const Tensor& d_x /*[R,d] compute =*/,
                                      const Tensor& d_weight /*[V,d] master +=*/) = 0;

  // ---- optimiser
  /// norm[0] = sqrt(sum gradient^2), in a fixed order.
  virtual void global_norm(const Tensor& gradient /*[n] master*/, const Tensor& norm /*[1] master =*/) = 0;
  /// norm[0] = NaN where any of `values` is not finite: a step whose loss is broken is refused by adamw like one whose
  /// gradient is.
  virtual void reject_non_finite(const Tensor& values /*[n] master*/, const Tensor& norm /*[1] master*/) = 0;
  /// AdamW (Loshchilov and Hutter 2019) over flat buffers: gradient scaled by min(1, clip / (norm + 1e-6)); `weights`
  /// gets the rounded masters, and may be `master` itself where both dtypes are one. A non-finite norm changes nothing.
  /// segments and step are device memory; segments lie within the buffers, one behind the other.
  virtual void adamw(const Tensor& master, const Tensor& weights /*compute*/, const Tensor& gradient,
                     const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& norm,
                     const ParameterSegment* segments, int32_t segment_count, const AdamWParams& params,
                     const AdamWStep* step) = 0;

  // ---- sampling
  /// token[i] drawn from logits[i]; logprob[i] = log softmax(logits[i])[token] at temperature 1 (may be null).
  /// The first params[i].top_logprobs entries of row i of `top` (may be null): the most likely tokens, whatever top_k
  /// and top_p leave of them, in falling order of logits, ties by smaller id, each with its log-probability as above;
  /// token -1 behind the last finite one. The rest of `top` stays as it is.
  /// params, token, logprob and top are host memory; waits.
  virtual void sample(const Tensor& logits /*[R,V] master*/, const SamplingParams* params /*[R]*/, int32_t* token,
                      float* logprob, TokenLogprob* top /*[R,kMostTopLogprobs]*/) = 0;
};

/// Zeroes a contiguous tensor.
inline void zero(Ops& ops, const Tensor& tensor) {
  ops.zero(tensor.data, static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype));
}

}  // namespace mor
