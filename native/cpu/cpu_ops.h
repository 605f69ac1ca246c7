// CpuOps: the Ops of the CPU, with one file beside this one for each op, compiled once for each instruction set
// (cpu.cmake).
#pragma once

#include "core/team.h"
#include "ops/ops.h"

namespace mor::MOR_CPU_ISA {

/// The class is hidden, so that the linker refuses a shared object too if an op has no definition.
class __attribute__((visibility("hidden"))) CpuOps final : public Ops {
 public:
  /// compute: float32 or bfloat16. threads: how many threads of the team (core/team.h) an op may use, at least 1.
  /// tiles: whether bfloat16 products and attention may use AMX tiles.
  CpuOps(DType compute, int threads, bool tiles);

  const char* name() const override { return "cpu"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return DType::float32; }

  void* allocate(size_t bytes) override;
  void release(void* pointer, size_t bytes) noexcept override;

#define MOR_OP(result, name, parameters) result name parameters override
#include "ops/op_list.h"

 private:
  /// Calls body(begin, end) on the team for contiguous stretches of [0, n), or once on the calling thread if all of it
  /// is less work (n * cost, in units of about a nanosecond) than waking the team.
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

  /// Likewise body(i) for every i in [0, n).
  template <class Body>
  void parallel_for(int64_t n, int64_t cost, const Body& body) const {
    parallel(n, cost, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i);
    });
  }

  /// Likewise body(stretch, begin, end) for every stretch of `length` numbers below n; the last one may be shorter.
  /// cost: of a stretch. The cut does not depend on the number of threads, and so sums over stretches that are added
  /// up in their order do not either.
  template <class Body>
  void parallel_stretches(int64_t n, int64_t length, int64_t cost, const Body& body) const {
    parallel_for(stretches_of(n, length), cost, [&](int64_t stretch) {
      body(stretch, stretch * length, n < (stretch + 1) * length ? n : (stretch + 1) * length);
    });
  }
  static int64_t stretches_of(int64_t n, int64_t length) {
    return (n + length - 1) / length;
  }

  /// Calls body(first row, logits [rows, V] float32) for each chunk of rows of x, one after another.
  template <class Body>
  void cross_entropy_chunks(const Tensor& x, const Tensor& weight, const Body& body);

  DType compute_;
  int threads_;
  bool tiles_;     ///< always false where the instruction set is not amx
  Arena scratch_;  ///< memory of the op that runs; released when it returns
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

/// Row i of a tensor, or row index[i] if there is an index.
template <class T>
T* row_of(const Tensor& tensor, int64_t i) {
  return tensor.as<T>() + i * tensor.row_stride;
}
template <class T>
T* row_of(const Tensor& tensor, const int32_t* index, int64_t i) {
  return row_of<T>(tensor, index == nullptr ? i : index[i]);
}

}  // namespace mor::MOR_CPU_ISA
