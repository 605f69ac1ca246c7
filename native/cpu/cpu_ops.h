// CpuOps: the Ops of the CPU, one op per file beside this one. Compiled once per instruction set (cpu.cmake).
// Must not know of models; oneDNN appears in linear_onednn.cpp only.
#pragma once

#include <memory>

#include "cpu/team.h"
#include "ops/ops.h"

namespace mor::MOR_CPU_ISA {

class OnednnMatmul;

class CpuOps final : public Ops {
 public:
  /// compute: float32 or bfloat16. threads: the team (team.h) of every op, at least 1.
  CpuOps(DType compute, int threads);
  ~CpuOps() override;

  const char* name() const override { return "cpu"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return DType::float32; }

  void* allocate(size_t bytes) override;
  void release(void* pointer, size_t bytes) noexcept override;
  void copy_to_device(void* device, const void* host, size_t bytes) override;
  void copy_to_host(void* host, const void* device, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void zero(void* device, size_t bytes) override;
  void synchronize() override {}
  void cast(const Tensor& from, const Tensor& to) override;

  void embedding_forward(const int32_t* tokens, const Tensor& weight, const Tensor& out) override;
  void embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) override;
  void rmsnorm_forward(const Tensor& x, const int32_t* source, const Tensor& weight, double epsilon,
                       const Tensor& packed, const Tensor& y, const Tensor& rstd) override;
  void rmsnorm_backward(const Tensor& d_y, const Tensor& packed, const Tensor& weight, const Tensor& rstd,
                        const Tensor& d_packed, const Tensor& d_weight) override;
  void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) override;
  void linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) override;
  void linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) override;
  void rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) override;
  void qkv_forward(const Tensor& x, const Tensor& weight, const int32_t* position, const Tensor& table, const Tensor& q,
                   const Tensor& k, const Tensor& v, const int32_t* slot) override;
  void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                         const Tensor& lse) override;
  void attention_backward(const Tensor& d_out, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                          const Tensor& lse, const Rows& rows, const Tensor& d_q, const Tensor& d_k,
                          const Tensor& d_v) override;
  void kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) override;
  void kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) override;
  void swiglu_forward(const Tensor& gate_up, const Tensor& out) override;
  void swiglu_backward(const Tensor& d_out, const Tensor& gate_up, const Tensor& d_gate_up) override;
  void gelu_forward(const Tensor& x, const Tensor& y) override;
  void gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) override;
  void gather_rows(const Tensor& x, const int32_t* source, const Tensor& y) override;
  void add_rows(const Tensor& x, const int32_t* source, const Tensor& y) override;
  void scatter_gated_forward(const Tensor& x, const int32_t* from, const Tensor& gate, const int32_t* to,
                             const Tensor& stream) override;
  void scatter_gated_backward(const Tensor& d_stream, const int32_t* to, const Tensor& x, const int32_t* from,
                              const Tensor& gate, const Tensor& d_x, const Tensor& d_gate) override;
  void router_scores_forward(const Tensor& x, const int32_t* source, const Tensor& weight,
                             const Tensor& scores) override;
  void router_scores_backward(const Tensor& d_scores, const Tensor& x, const int32_t* source, const Tensor& weight,
                              const Tensor& d_x, const Tensor& d_weight) override;
  void router_gate_forward(const Tensor& scores, const int32_t* index, Activation activation, double alpha,
                           const Tensor& gate) override;
  void router_gate_backward(const Tensor& d_gate, const Tensor& scores, const int32_t* index, Activation activation,
                            double alpha, const Tensor& d_scores) override;
  void select_topk(const Tensor& scores, const int32_t* parent_start, int32_t sequences, int32_t k, int32_t* index,
                   int32_t* start, uint8_t* selected) override;
  int32_t select_threshold(const Tensor& scores, const int32_t* parent_start, int32_t sequences, double threshold,
                           int32_t* index, int32_t* start, uint8_t* selected) override;
  int32_t select_between(const int32_t* values, int32_t rows, const int32_t* parent_start, int32_t sequences,
                         int32_t low, int32_t high, int32_t* index, int32_t* start, uint8_t* selected) override;
  void gather_indices(const int32_t* from, const int32_t* index, int32_t n, int32_t* to) override;
  void visible_causal(const int32_t* start, int32_t sequences, int32_t n, int32_t* visible) override;
  void equal_rows(int32_t sequences, int32_t length, int32_t* start, int32_t* position, int32_t* visible) override;
  void sum_integers(const int32_t* values, int32_t n, int64_t* sum) override;
  void expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                          double z_scale, const Tensor& sums, const Tensor& d_scores) override;
  void token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation, double alpha,
                            const Tensor& probabilities, int32_t* depth, const Tensor& gate, const Tensor& load,
                            const Tensor& p_sum, const Tensor& z_sum) override;
  void token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                             const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                             double z_scale, const Tensor& d_logits) override;
  void cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target,
                             const Tensor& losses) override;
  void cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                              const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) override;
  void global_norm(const Tensor& gradient, const Tensor& norm) override;
  void reject_non_finite(const Tensor& values, const Tensor& norm) override;
  void adamw(const Tensor& master, const Tensor& weights, const Tensor& gradient, const Tensor& exp_avg,
             const Tensor& exp_avg_sq, const Tensor& norm, const ParameterSegment* segments, int32_t segment_count,
             const AdamWParams& params, const AdamWStep* step) override;
  void sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
              TokenLogprob* top) override;

 private:
  /// Calls body(begin, end) over [0, n) on the team, in even contiguous stretches; in place where the whole is less
  /// work (n * cost, in units of about a nanosecond) than waking the team.
  template <class Body>
  void parallel(int64_t n, int64_t cost, const Body& body) const {
    const int64_t team = n * cost < kWorthATeam ? 1 : (n < threads_ ? n : threads_);
    if (team <= 1) {
      if (n > 0) body(int64_t{0}, n);
      return;
    }
    Team::of_process().run(team, static_cast<int>(team),
                           [&](int64_t i, int) { body(n * i / team, n * (i + 1) / team); });
  }
  static constexpr int64_t kWorthATeam = 8000;

  /// Calls body(first row, logits [rows, V] float32) for one chunk of rows of x after another.
  template <class Body>
  void cross_entropy_chunks(const Tensor& x, const Tensor& weight, const Body& body);

  DType compute_;
  int threads_;
  Arena scratch_;  ///< for one op at a time; released when it returns
  std::unique_ptr<OnednnMatmul> onednn_;
};

/// Runs body with a value of the C++ type that holds a compute or master dtype: with_type(x.dtype, [&](auto t) {…}).
template <class Body>
void with_type(DType dtype, const Body& body) {
  if (dtype == DType::bfloat16) {
    body(bfloat16{});
  } else {
    MOR_CHECK(dtype == DType::float32, INVALID_ARGUMENT, "the CPU device computes in float32 or bfloat16, not ",
              dtype_name(dtype));
    body(float{});
  }
}

}  // namespace mor::MOR_CPU_ISA
