// The list of ops: the signature of every op and what it computes. Ops (ops.h) makes a pure virtual function of each
// entry, and the class of every device an override. So this file is included inside classes, with MOR_OP defined.
//
// MOR_OP(result, name, (parameters)): one op.
// MOR_COUNT_OP(name, (parameters), most): an op that returns how many rows it selected; `most` is the largest number
// that its parameters allow. If MOR_COUNT_OP is not defined, it becomes an MOR_OP that returns SelectedRows.
//
// The conventions for shapes, dtypes and accumulation are those at `class Ops`.
#ifndef MOR_COUNT_OP
#define MOR_COUNT_OP(name, parameters, most) MOR_OP(SelectedRows, name, parameters)
#endif

// ---- memory (allocate and release come from MemoryResource)
MOR_OP(void, copy_to_device, (void* device, const void* host, size_t bytes));
MOR_OP(void, copy_to_host, (void* host, const void* device, size_t bytes));  ///< waits for the device
MOR_OP(void, copy, (void* to, const void* from, size_t bytes));              ///< device to device
MOR_OP(void, zero, (void* device, size_t bytes));
MOR_OP(void, synchronize, ());
/// to = from, element by element, between any two of float32, bfloat16 and the master dtype; same shape.
MOR_OP(void, cast, (const Tensor& from, const Tensor& to));

// ---- embedding: out[i] = weight[tokens[i]]
MOR_OP(void, embedding_forward,
       (const int32_t* tokens /*[R]*/, const Tensor& weight /*[V,d] compute*/, const Tensor& out /*[R,d] compute =*/));
MOR_OP(void, embedding_backward,
       (const int32_t* tokens, const Tensor& d_out /*[R,d] compute*/, const Tensor& d_weight /*[V,d] master +=*/));

// ---- rmsnorm (Zhang and Sennrich 2019) with row gather: packed[i] = x[source[i]],
//      rstd[i] = 1/sqrt(mean(packed[i]^2) + epsilon), y[i] = packed[i] * rstd[i] * weight
/// `packed` and `rstd` may be empty tensors if they are not needed; source may be null (identity).
MOR_OP(void, rmsnorm_forward,
       (const Tensor& x /*[M,d] compute*/, const int32_t* source /*[R]*/, const Tensor& weight /*[d] compute*/,
        double epsilon, const Tensor& packed /*[R,d] =*/, const Tensor& y /*[R,d] compute =*/,
        const Tensor& rstd /*[R] master =*/));
MOR_OP(void, rmsnorm_backward,
       (const Tensor& d_y /*[R,d]*/, const Tensor& packed /*[R,d]*/, const Tensor& weight, const Tensor& rstd,
        const Tensor& d_packed /*[R,d] compute +=*/, const Tensor& d_weight /*[d] master +=*/));

// ---- linear: y = x weight^T (+ residual)
/// y is compute or master dtype. residual [R,n] compute may be empty, and may be y itself. With a row stride of 0 it is
/// one row that is added to every row of the product (a bias).
MOR_OP(void, linear_forward,
       (const Tensor& x /*[R,k]*/, const Tensor& weight /*[n,k]*/, const Tensor& residual,
        const Tensor& y /*[R,n] =*/));
MOR_OP(void, linear_backward_input,
       (const Tensor& d_y /*[R,n]*/, const Tensor& weight /*[n,k]*/, const Tensor& d_x /*[R,k] compute =*/));
MOR_OP(void, linear_backward_weight,
       (const Tensor& d_y /*[R,n]*/, const Tensor& x /*[R,k]*/, const Tensor& d_weight /*[n,k] master +=*/));

// ---- rotary embedding (Su et al. 2021), "rotate halves": pair (j, j + hd/2) rotated by table[position]
/// In place. table [positions, hd] master: cosines of the hd/2 angles, then their sines. direction +1 forward,
/// -1 backward (the rotation is orthogonal, so its gradient is the rotation back).
MOR_OP(void, rotary,
       (const Tensor& x /*[R,heads,hd] compute*/, const int32_t* position /*[R]*/, const Tensor& table, int direction));

// ---- qkv: attention's three projections, normalised, rotated, and written where attention reads them
/// The columns of x weight^T + bias, rounded to compute, are the heads of q, then of k, then of v. If there are norms,
/// each head of q and k is normalised like a row of rmsnorm_forward, by q_norm or k_norm, and rounded. Then q[i] gets
/// the heads of q and k[slot[i]] those of k, rotated as by rotary, and v[slot[i]] gets those of v. Without bias and
/// norms, the result is bit for bit that of linear_forward, rotary (direction +1) and kv_write. slot null: identity.
/// Slots are distinct; the key and value of a row with a negative slot are not written. k and v empty: queries only. q,
/// k and v may be columns of wider buffers. projected: the columns before norms and rotary, which qkv_backward needs if
/// there are norms. It may be empty, and q, k and v do not depend on it.
MOR_OP(void, qkv_forward,
       (const Tensor& x /*[R,d] compute*/, const QkvTensors& weights, double epsilon /*of the norms*/,
        const int32_t* position /*[R]*/, const Tensor& table /*[positions,hd] master*/,
        const Tensor& q /*[R,h,hd] compute =*/, const Tensor& k /*[slots,kv,hd] compute =*/,
        const Tensor& v /*[slots,kv,hd] compute =*/, const int32_t* slot /*[R]*/,
        const Tensor& projected /*[R,(h+2kv)*hd] or [R,h*hd] compute =*/));
/// In place: row i of d_q, d_k and d_v, the gradients of what the forward wrote for row i, becomes the gradient of that
/// row of x weight^T. The gradients of bias and norms accumulate; they are sums of values not yet rounded to compute.
/// That of weight is left to linear_backward_weight. d_k and d_v empty: queries only. Without bias and norms this is
/// rotary (direction -1) of d_q and d_k.
MOR_OP(void, qkv_backward,
       (const Tensor& d_q /*[R,h,hd] compute*/, const Tensor& d_k /*[R,kv,hd] compute*/,
        const Tensor& d_v /*[R,kv,hd] compute*/, const Tensor& projected /*of the forward; empty without norms*/,
        const QkvTensors& weights, double epsilon, const int32_t* position, const Tensor& table,
        const QkvTensors& gradients /*master +=*/));

// ---- attention over packed rows (docs/model.md sections 3 and 5): softmax(q k^T / sqrt(hd)) v, grouped query
/// Query row i of sequence s sees the first rows.visible[i] keys of s (0 is legal: its output is 0). k, v are
/// [slots,kv,hd]; query head j uses key head j / (h/kv). lse [R,h] master (log-sum-exp of the scaled scores) may be
/// empty where no backward follows.
MOR_OP(void, attention_forward,
       (const Tensor& q /*[R,h,hd]*/, const Tensor& k, const Tensor& v, const Rows& rows,
        const Tensor& out /*[R,h,hd] =*/, const Tensor& lse /*[R,h] master =*/));
/// Only rows with block_size == 0 (keys of a sequence in one run), and runs that do not overlap.
MOR_OP(void, attention_backward,
       (const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out, const Tensor& lse,
        const Rows& rows, const Tensor& d_q /*=*/, const Tensor& d_k /*[slots,kv,hd] +=*/, const Tensor& d_v /*+=*/));

// ---- kv_cache rows
/// cache[slot[i]] = x[i]; slots are distinct; null: identity. x [R,kv,hd], cache [slots,kv,hd].
MOR_OP(void, kv_write, (const Tensor& x, const int32_t* slot /*[R]*/, const Tensor& cache));
/// Backward of kv_write: d_x[i] = d_cache[slot[i]], then d_cache[slot[i]] = 0 (what was overwritten got no gradient).
MOR_OP(void, kv_write_backward, (const Tensor& d_cache, const int32_t* slot, const Tensor& d_x /*=*/));

// ---- swiglu (Shazeer 2020): out = silu(gate) * up, gate and up being the halves of gate_up = x weight^T
/// gate_up, rounded to compute, has the bits of linear_forward. swiglu_backward needs it; it may be empty, and out does
/// not depend on that.
MOR_OP(void, swiglu_forward,
       (const Tensor& x /*[R,d] compute*/, const Tensor& weight /*[2f,d] compute*/,
        const Tensor& gate_up /*[R,2f] compute =*/, const Tensor& out /*[R,f] compute =*/));
/// The gradient of gate_up. Those of x and weight are left to linear_backward_input and linear_backward_weight.
MOR_OP(void, swiglu_backward, (const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up /*=*/));

// ---- gelu, exact (erf)
MOR_OP(void, gelu_forward, (const Tensor& x /*[R,n]*/, const Tensor& y /*=*/));
MOR_OP(void, gelu_backward, (const Tensor& d_y, const Tensor& x, const Tensor& d_x /*=*/));

// ---- rows: gather, add, gated scatter
/// y[i] = x[source[i]]; null: identity. x and y of one dtype, compute or master (here and in add_rows).
MOR_OP(void, gather_rows, (const Tensor& x /*[M,d]*/, const int32_t* source /*[R]*/, const Tensor& y /*[R,d] =*/));
/// y[source[i]] += x[i]; sources are distinct; null: identity.
MOR_OP(void, add_rows, (const Tensor& x /*[R,d]*/, const int32_t* source, const Tensor& y /*[M,d] +=*/));
/// stream[to[i]] += gate[i] * x[from[i]] for i < n. `from` or `to` null: identity. x may be the stream itself where
/// `from` is `to`. (docs/model.md section 3: x_t + g_t f(x)_t)
MOR_OP(void, scatter_gated_forward,
       (const Tensor& x /*[R,d]*/, const int32_t* from /*[n]*/, const Tensor& gate /*[n] master*/,
        const int32_t* to /*[n]*/, const Tensor& stream /*[M,d] compute +=*/));
/// d_gate[i] = <d_stream[to[i]], x[from[i]]>; d_x[from[i]] = gate[i] * d_stream[to[i]]; other rows of d_x untouched.
MOR_OP(void, scatter_gated_backward,
       (const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from, const Tensor& gate,
        const Tensor& d_x, const Tensor& d_gate /*[n] master =*/));

// ---- router_scores: scores[i] = x[source[i]] weight^T for few outputs n (docs/model.md sections 3 and 4)
MOR_OP(void, router_scores_forward,
       (const Tensor& x /*[M,d]*/, const int32_t* source /*[R]; null: identity*/,
        const Tensor& weight /*[n,d] compute*/, const Tensor& scores /*[R,n] master =*/));
/// d_x[source[i]] += ..., d_weight += .... d_x may be empty (detached inputs of an auxiliary router).
MOR_OP(void, router_scores_backward,
       (const Tensor& d_scores, const Tensor& x, const int32_t* source, const Tensor& weight,
        const Tensor& d_x /*[M,d] compute +=*/, const Tensor& d_weight /*[n,d] master +=*/));

// ---- router_gate: gate[i] = alpha * activation(scores[index[i]]) (sigmoid or tanh)
MOR_OP(void, router_gate_forward,
       (const Tensor& scores /*[P] master*/, const int32_t* index /*[R]; null: identity*/, Activation activation,
        double alpha, const Tensor& gate /*[R] master =*/));
/// d_scores[index[i]] += d_gate[i] * alpha * activation'(scores[index[i]])
MOR_OP(void, router_gate_backward,
       (const Tensor& d_gate, const Tensor& scores, const int32_t* index, Activation activation, double alpha,
        const Tensor& d_scores /*[P] master +=*/));

// ---- selection: which of the P parent rows run the next recursion
/// Of every sequence the k rows with the largest score (ties to the earlier row), in row order; 1 <= k <= its rows.
/// index [sequences * k] = parent rows, start [sequences+1] of the selection, selected [P] 0/1.
MOR_OP(void, select_topk,
       (const Tensor& scores /*[P] master*/, const int32_t* parent_start, int32_t sequences, int32_t k, int32_t* index,
        int32_t* start, uint8_t* selected));
/// Rows with score >= threshold, in row order. Same outputs, index with room for P. Returns how many; waits.
MOR_COUNT_OP(select_threshold,
             (const Tensor& scores, const int32_t* parent_start, int32_t sequences, double threshold, int32_t* index,
              int32_t* start, uint8_t* selected),
             static_cast<int32_t>(scores.count()));
/// Rows with low <= value <= high (token-choice depths). Same outputs. Returns how many; waits.
MOR_COUNT_OP(select_between,
             (const int32_t* values /*[P]*/, int32_t rows /*P*/, const int32_t* parent_start, int32_t sequences,
              int32_t low, int32_t high, int32_t* index, int32_t* start, uint8_t* selected),
             rows);
/// to[i] = from[index[i]]
MOR_OP(void, gather_indices, (const int32_t* from, const int32_t* index, int32_t n, int32_t* to));
/// visible[i] = i - start[s] + 1 for row i of sequence s: every row sees its own sequence's rows up to itself.
MOR_OP(void, visible_causal, (const int32_t* start, int32_t sequences, int32_t n, int32_t* visible));
/// Whole sequences of one length, row s * length + t being token t of sequence s: start[s] = s * length, position t,
/// visible t + 1.
MOR_OP(void, equal_rows,
       (int32_t sequences, int32_t length, int32_t* start /*[sequences+1]*/, int32_t* position /*[sequences*length]*/,
        int32_t* visible /*[sequences*length]*/));
/// sum[0] = values[0] + ... + values[n-1]
MOR_OP(void, sum_integers, (const int32_t* values, int32_t n, int64_t* sum /*[1]*/));

// ---- expert_choice_loss (docs/model.md section 3): BCEWithLogits against the selection, and z-loss
/// sums[0] += sum of BCE(scores[i], selected[i]), sums[1] += sum of scores[i]^2,
/// sums[2] += number of rows where (scores[i] >= threshold) == selected[i].
/// d_scores[i] += bce_scale * (sigmoid(s) - selected) + z_scale * 2 s, unless d_scores is empty.
MOR_OP(void, expert_choice_loss,
       (const Tensor& scores /*[P] master*/, const uint8_t* selected, double threshold, double bce_scale,
        double z_scale, const Tensor& sums /*[3] master +=*/, const Tensor& d_scores /*[P] master +=*/));

// ---- token_choice (docs/model.md section 4)
/// probabilities = alpha * activation(logits) (softmax or sigmoid); depth[i] = 1 + argmax_j(p_ij + bias_j), ties to
/// the smaller; gate[i] = p[i, depth-1]; load[j] += rows whose depth is j+1; mean_p[j] += sum_i p_ij; z_sum[0] +=
/// sum_i logsumexp(logits_i)^2.
MOR_OP(void, token_choice_forward,
       (const Tensor& logits /*[R,N] master*/, const Tensor& bias /*[N] master*/, Activation activation, double alpha,
        const Tensor& probabilities /*[R,N] =*/, int32_t* depth /*[R]*/, const Tensor& gate /*[R] master =*/,
        const Tensor& load /*[N] master +=*/, const Tensor& p_sum /*[N] master +=*/,
        const Tensor& z_sum /*[1] master +=*/));
/// Gradient of: sum_i d_gate[i] p[i,depth-1] + sum_ij p_scale[j] p_ij + z_scale * sum_i logsumexp_i^2.
MOR_OP(void, token_choice_backward,
       (const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities, const int32_t* depth,
        Activation activation, double alpha, const Tensor& p_scale /*[N] master*/, double z_scale,
        const Tensor& d_logits /*[R,N] master =*/));

// ---- cross_entropy fused with the output projection: logits of the batch are never stored whole
/// losses[i] = logsumexp_j(<x_i, weight_j>) - <x_i, weight_target>; target -1: ignored, loss 0.
MOR_OP(void, cross_entropy_forward,
       (const Tensor& x /*[R,d]*/, const Tensor& weight /*[V,d]*/, const int32_t* target,
        const Tensor& losses /*[R] master =*/));
/// Forward, and the gradient of scale * sum_i losses[i].
MOR_OP(void, cross_entropy_backward,
       (const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
        const Tensor& losses /*[R] master =*/, const Tensor& d_x /*[R,d] compute =*/,
        const Tensor& d_weight /*[V,d] master +=; empty: not wanted*/));

// ---- distillation (Hinton et al. 2015) fused with both output projections: logits are never stored whole
/// With s_i = weight x_i, t_i = teacher_weight teacher_x_i and T = params.temperature: losses[i] as cross_entropy, and
/// divergences[i] = T^2 KL(softmax(t_i / T) || softmax(s_i / T)); both are 0 where the target is -1. And the gradient
/// of loss_scale * sum_i losses[i] + divergence_scale * sum_i divergences[i]. If s_i is t_i bit for bit, the divergence
/// and its gradient are exactly 0.
MOR_OP(void, distillation,
       (const Tensor& x /*[R,d]*/, const Tensor& weight /*[V,d]*/, const Tensor& teacher_x /*[R,e]*/,
        const Tensor& teacher_weight /*[V,e]*/, const int32_t* target, const DistillationParams& params,
        const Tensor& losses /*[R] master =*/, const Tensor& divergences /*[R] master =*/,
        const Tensor& d_x /*[R,d] compute =*/, const Tensor& d_weight /*[V,d] master +=; empty: not wanted*/));

// ---- optimiser
/// norm[0] = sqrt(sum gradient^2), in a fixed order.
MOR_OP(void, global_norm, (const Tensor& gradient /*[n] master*/, const Tensor& norm /*[1] master =*/));
/// norm[0] = NaN if any of `values` is not finite. So adamw refuses a step whose loss is not finite, like one whose
/// gradient is not.
MOR_OP(void, reject_non_finite, (const Tensor& values /*[n] master*/, const Tensor& norm /*[1] master*/));
/// AdamW (Loshchilov and Hutter 2019) over flat buffers, with the gradient scaled by min(1, clip / (norm + 1e-6)). The
/// new masters of every segment are rounded to its storage in `weights`. `weights` may be the memory of the masters if
/// the storage is their dtype and each weight lies where its master does. If the norm is not finite, nothing changes.
/// segments and step are device memory; segments lie within the buffers in rising order, without overlap.
MOR_OP(void, adamw,
       (const Tensor& master, void* weights, const Tensor& gradient, const Tensor& exp_avg, const Tensor& exp_avg_sq,
        const Tensor& norm, const ParameterSegment* segments, int32_t segment_count, const AdamWParams& params,
        const AdamWStep* step));

// ---- sampling
/// token[i] drawn from logits[i] after the edits of params[i], unless one is given; logprob[i] = log
/// softmax(logits[i])[token] at temperature 1 without the edits (may be null). Logits that are not finite are out of
/// the draw and of that softmax, as if they were -infinity. Throws NON_FINITE where none is left, and, since nobody may
/// take that softmax for the model's, where a token is given and a logit of the row is NaN or infinity. The first
/// params[i].top_logprobs entries of row i of `top` (may be null): the most likely tokens without the edits, whatever
/// the filters leave of them, in falling order of logits, ties by smaller id, each with its log-probability as above;
/// token -1 behind the last finite one. The rest of `top` stays as it is. A device may apply edits in place; when it is
/// done, logits are what they were. params, token, logprob and top are host memory; waits.
MOR_OP(void, sample,
       (const Tensor& logits /*[R,V] master*/, const SamplingParams* params /*[R]*/, int32_t* token, float* logprob,
        TokenLogprob* top /*[R,kMostTopLogprobs]*/));

#undef MOR_OP
#undef MOR_COUNT_OP
