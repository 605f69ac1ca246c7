// RefOps<T>: the scalar reference as a device, T = float, double or std::complex<double> (for the complex step).
// Must not be fast; one header a family of ops beside this one.
#pragma once

#include <cstdlib>
#include <cstring>

#include "ops/ops.h"
#include "ops/ref/adamw.h"
#include "ops/ref/attention.h"
#include "ops/ref/cross_entropy.h"
#include "ops/ref/embedding.h"
#include "ops/ref/expert_choice_loss.h"
#include "ops/ref/gelu.h"
#include "ops/ref/kv_write.h"
#include "ops/ref/linear.h"
#include "ops/ref/qkv.h"
#include "ops/ref/rmsnorm.h"
#include "ops/ref/rotary.h"
#include "ops/ref/router_gate.h"
#include "ops/ref/router_scores.h"
#include "ops/ref/rows.h"
#include "ops/ref/sample.h"
#include "ops/ref/select.h"
#include "ops/ref/swiglu.h"
#include "ops/ref/token_choice.h"

namespace mor {

template <class T>
class RefOps : public Ops {
 public:
  const char* name() const override { return "ref"; }
  DType compute_dtype() const override { return dtype_of<T>::value; }
  DType master_dtype() const override { return dtype_of<T>::value; }

  void* allocate(size_t bytes) override {
    void* pointer = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
    MOR_CHECK(pointer != nullptr, OUT_OF_MEMORY, "no ", bytes, " bytes left");
    return pointer;
  }
  void release(void* pointer, size_t) noexcept override { std::free(pointer); }
  void copy_to_device(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void copy_to_host(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void zero(void* device, size_t bytes) override {
    if (bytes > 0) std::memset(device, 0, bytes);
  }
  void synchronize() override {}
  void cast(const Tensor& from, const Tensor& to) override { ref::cast<T>(from, to); }

  void embedding_forward(const int32_t* tokens, const Tensor& weight, const Tensor& out) override {
    ref::embedding_forward<T>(tokens, weight, out);
  }
  void embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) override {
    ref::embedding_backward<T>(tokens, d_out, d_weight);
  }
  void rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                       const Tensor& packed, const Tensor& y, const Tensor& rstd) override {
    ref::rmsnorm_forward<T>(x, source, weight, epsilon, packed, y, rstd);
  }
  void rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                        const Tensor& d_packed, const Tensor& d_weight) override {
    ref::rmsnorm_backward<T>(d_y, packed, weight, rstd, d_packed, d_weight);
  }
  void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) override {
    ref::linear_forward<T>(x, weight, residual, y);
  }
  void linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) override {
    ref::linear_backward_input<T>(d_y, weight, d_x);
  }
  void linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) override {
    ref::linear_backward_weight<T>(d_y, x, d_weight);
  }
  void rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) override {
    ref::rotary<T>(x, position, table, direction);
  }
  void qkv_forward(const Tensor& x, const Tensor& weight, const int32_t* position, const Tensor& table, const Tensor& q,
                   const Tensor& k, const Tensor& v, const int32_t* slot) override {
    ref::qkv_forward<T>(x, weight, position, table, q, k, v, slot);
  }
  void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                         const Tensor& lse) override {
    ref::attention_forward<T>(q, k, v, rows, out, lse);
  }
  void attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                          const Tensor& lse, const Rows& rows, const Tensor& d_q, const Tensor& d_k,
                          const Tensor& d_v) override {
    ref::attention_backward<T>(d_out, q, k, v, out, lse, rows, d_q, d_k, d_v);
  }
  void kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) override {
    ref::kv_write<T>(x, slot, cache);
  }
  void kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) override {
    ref::kv_write_backward<T>(d_cache, slot, d_x);
  }
  void swiglu_forward(const Tensor& gate_up, const Tensor& out) override { ref::swiglu_forward<T>(gate_up, out); }
  void swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) override {
    ref::swiglu_backward<T>(d_out, gate_up, d_gate_up);
  }
  void gelu_forward(const Tensor& x, const Tensor& y) override { ref::gelu_forward<T>(x, y); }
  void gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) override {
    ref::gelu_backward<T>(d_y, x, d_x);
  }
  void gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) override {
    ref::gather_rows<T>(x, source, y);
  }
  void add_rows(const Tensor& x, const int32_t* source, const Tensor& y) override { ref::add_rows<T>(x, source, y); }
  void scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                             const Tensor& stream) override {
    ref::scatter_gated_forward<T>(x, from, gate, to, stream);
  }
  void scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                              const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) override {
    ref::scatter_gated_backward<T>(d_stream, to, x, from, gate, d_x, d_gate);
  }
  void router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight,
                             const Tensor& scores) override {
    ref::router_scores_forward<T>(x, source, weight, scores);
  }
  void router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source, const Tensor& weight,
                              const Tensor& d_x, const Tensor& d_weight) override {
    ref::router_scores_backward<T>(d_scores, x, source, weight, d_x, d_weight);
  }
  void router_gate_forward(const Tensor& scores, const int32_t* index, Activation activation, double alpha,
                           const Tensor& gate) override {
    ref::router_gate_forward<T>(scores, index, activation, alpha, gate);
  }
  void router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index, Activation activation,
                            double alpha, const Tensor& d_scores) override {
    ref::router_gate_backward<T>(d_gate, scores, index, activation, alpha, d_scores);
  }
  void select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, int32_t k, int32_t* index,
                   int32_t* start, uint8_t* selected) override {
    ref::select_topk<T>(scores, parent_start, sequences, k, index, start, selected);
  }
  int32_t select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences, double threshold,
                           int32_t* index, int32_t* start, uint8_t* selected) override {
    return ref::select_threshold<T>(scores, parent_start, sequences, threshold, index, start, selected);
  }
  int32_t select_between(const int32_t* values, int32_t, const int32_t* parent_start, int32_t sequences, int32_t low,
                         int32_t high, int32_t* index, int32_t* start, uint8_t* selected) override {
    return ref::select_between(values, parent_start, sequences, low, high, index, start, selected);
  }
  void gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) override {
    ref::gather_indices(from, index, n, to);
  }
  void visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) override {
    ref::visible_causal(start, sequences, n, visible);
  }
  void equal_rows(int32_t sequences, int32_t length, int32_t* start, int32_t* position, int32_t* visible) override {
    ref::equal_rows(sequences, length, start, position, visible);
  }
  void sum_integers(const int32_t* values, int32_t n, int64_t* sum) override { ref::sum_integers(values, n, sum); }
  void expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                          double z_scale, const Tensor& sums, const Tensor& d_scores) override {
    ref::expert_choice_loss<T>(scores, selected, threshold, bce_scale, z_scale, sums, d_scores);
  }
  void token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation, double alpha,
                            const Tensor& probabilities, int32_t* depth, const Tensor& gate, const Tensor& load,
                            const Tensor& p_sum, const Tensor& z_sum) override {
    ref::token_choice_forward<T>(logits, bias, activation, alpha, probabilities, depth, gate, load, p_sum, z_sum);
  }
  void token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                             const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                             double z_scale, const Tensor& d_logits) override {
    ref::token_choice_backward<T>(d_gate, logits, probabilities, depth, activation, alpha, p_scale, z_scale, d_logits);
  }
  void cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target,
                             const Tensor& losses) override {
    ref::cross_entropy_forward<T>(x, weight, target, losses);
  }
  void cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                              const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) override {
    ref::cross_entropy_backward<T>(x, weight, target, scale, losses, d_x, d_weight);
  }
  void global_norm(const Tensor& gradient, const Tensor& norm) override { ref::global_norm<T>(gradient, norm); }
  void reject_non_finite(const Tensor& values, const Tensor& norm) override { ref::reject_non_finite<T>(values, norm); }
  void adamw(const Tensor& master, const Tensor& weights, const Tensor& gradient, const Tensor& exp_avg,
             const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments, int32_t segment_count,
             const AdamWParams& params, const AdamWStep* step) override {
    ref::adamw<T>(master, weights, gradient, exp_avg, exp_avg_sq, norm, segments, segment_count, params, *step);
  }
  void sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
              TokenLogprob* top) override {
    ref::sample<T>(logits, params, token, logprob, top);
  }
};

// Compiled once, by ref_ops.cpp.
extern template class RefOps<float>;
extern template class RefOps<double>;
extern template class RefOps<std::complex<double>>;

}  // namespace mor
