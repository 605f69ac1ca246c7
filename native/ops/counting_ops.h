// CountingOps: a device without memory or arithmetic. Work that runs on it shows how much memory it would take: run the
// same work with arenas of this device and look at their peaks. Must not compute anything.
#pragma once

#include "ops/ops.h"

namespace mor {

/// Addresses are numbers that nobody may follow; nothing is read or written, on the device or for the host. Ops that
/// return how many rows they selected return all of them: the most that a device could.
class CountingOps final : public Ops {
 public:
  /// Sizes follow from the dtypes of the device that is to do the work.
  CountingOps(DType compute, DType master) : compute_(compute), master_(master) {}

  const char* name() const override { return "counting"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return master_; }

  void* allocate(size_t) override { return reinterpret_cast<void*>(kAddress); }
  void release(void*, size_t) noexcept override {}
  void copy_to_device(void*, const void*, size_t) override {}
  void copy_to_host(void*, const void*, size_t) override {}
  void copy(void*, const void*, size_t) override {}
  void zero(void*, size_t) override {}
  void synchronize() override {}
  void cast(const Tensor&, const Tensor&) override {}

  void embedding_forward(const int32_t*, const Tensor&, const Tensor&) override {}
  void embedding_backward(const int32_t*, const Tensor&, const Tensor&) override {}
  void rmsnorm_forward(const Tensor&, const int32_t*, const Tensor&, double, const Tensor&, const Tensor&,
                       const Tensor&) override {}
  void rmsnorm_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&) override {}
  void linear_forward(const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void linear_backward_input(const Tensor&, const Tensor&, const Tensor&) override {}
  void linear_backward_weight(const Tensor&, const Tensor&, const Tensor&) override {}
  void rotary(const Tensor&, const int32_t*, const Tensor&, int) override {}
  void qkv_forward(const Tensor&, const Tensor&, const int32_t*, const Tensor&, const Tensor&, const Tensor&,
                   const Tensor&, const int32_t*) override {}
  void attention_forward(const Tensor&, const Tensor&, const Tensor&, const Rows&, const Tensor&,
                         const Tensor&) override {}
  void attention_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Rows&, const Tensor&, const Tensor&, const Tensor&) override {}
  void kv_write(const Tensor&, const int32_t*, const Tensor&) override {}
  void kv_write_backward(const Tensor&, const int32_t*, const Tensor&) override {}
  void swiglu_forward(const Tensor&, const Tensor&) override {}
  void swiglu_backward(const Tensor&, const Tensor&, const Tensor&) override {}
  void gelu_forward(const Tensor&, const Tensor&) override {}
  void gelu_backward(const Tensor&, const Tensor&, const Tensor&) override {}
  void gather_rows(const Tensor&, const int32_t*, const Tensor&) override {}
  void add_rows(const Tensor&, const int32_t*, const Tensor&) override {}
  void scatter_gated_forward(const Tensor&, const int32_t*, const Tensor&, const int32_t*, const Tensor&) override {}
  void scatter_gated_backward(const Tensor&, const int32_t*, const Tensor&, const int32_t*, const Tensor&,
                              const Tensor&, const Tensor&) override {}
  void router_scores_forward(const Tensor&, const int32_t*, const Tensor&, const Tensor&) override {}
  void router_scores_backward(const Tensor&, const Tensor&, const int32_t*, const Tensor&, const Tensor&,
                              const Tensor&) override {}
  void router_gate_forward(const Tensor&, const int32_t*, Activation, double, const Tensor&) override {}
  void router_gate_backward(const Tensor&, const Tensor&, const int32_t*, Activation, double, const Tensor&) override {}
  void select_topk(const Tensor&, const int32_t*, int32_t, int32_t, int32_t*, int32_t*, uint8_t*) override {}
  int32_t select_threshold(const Tensor& scores, const int32_t*, int32_t, double, int32_t*, int32_t*,
                           uint8_t*) override {
    return static_cast<int32_t>(scores.count());
  }
  int32_t select_between(const int32_t*, int32_t rows, const int32_t*, int32_t, int32_t, int32_t, int32_t*, int32_t*,
                         uint8_t*) override {
    return rows;
  }
  void gather_indices(const int32_t*, const int32_t*, int32_t, int32_t*) override {}
  void visible_causal(const int32_t*, int32_t, int32_t, int32_t*) override {}
  void equal_rows(int32_t, int32_t, int32_t*, int32_t*, int32_t*) override {}
  void sum_integers(const int32_t*, int32_t, int64_t*) override {}
  void expert_choice_loss(const Tensor&, const uint8_t*, double, double, double, const Tensor&,
                          const Tensor&) override {}
  void token_choice_forward(const Tensor&, const Tensor&, Activation, double, const Tensor&, int32_t*, const Tensor&,
                            const Tensor&, const Tensor&, const Tensor&) override {}
  void token_choice_backward(const Tensor&, const Tensor&, const Tensor&, const int32_t*, Activation, double,
                             const Tensor&, double, const Tensor&) override {}
  void cross_entropy_forward(const Tensor&, const Tensor&, const int32_t*, const Tensor&) override {}
  void cross_entropy_backward(const Tensor&, const Tensor&, const int32_t*, double, const Tensor&, const Tensor&,
                              const Tensor&) override {}
  void global_norm(const Tensor&, const Tensor&) override {}
  void reject_non_finite(const Tensor&, const Tensor&) override {}
  void adamw(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
             const ParameterSegment*, int32_t, const AdamWParams&, const AdamWStep*) override {}
  void sample(const Tensor&, const SamplingParams*, int32_t*, float*, TokenLogprob*) override {}

 private:
  static constexpr uintptr_t kAddress = uintptr_t{1} << 20;
  DType compute_, master_;
};

}  // namespace mor
