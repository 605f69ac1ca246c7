// CpuOps: the Ops of the CPU, one op per file beside this one. Compiled once per instruction set (cpu.cmake).
// Must not know of models; oneDNN appears in linear_onednn.cpp only.
#pragma once

#include <memory>

#include "cpu/team.h"
#include "ops/ops.h"

namespace mor::MOR_CPU_ISA {

class OnednnMatmul;

/// Hidden, so that the linker refuses a shared object too where an op has no definition.
class __attribute__((visibility("hidden"))) CpuOps final : public Ops {
 public:
  /// compute: float32 or bfloat16. threads: the team (team.h) of every op, at least 1.
  CpuOps(DType compute, int threads);
  ~CpuOps() override;

  const char* name() const override { return "cpu"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return DType::float32; }

  void* allocate(size_t bytes) override;
  void release(void* pointer, size_t bytes) noexcept override;

#define MOR_OP(result, name, parameters) result name parameters override
#include "ops/op_list.h"

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
