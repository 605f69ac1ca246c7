// CountingOps: a device without memory or arithmetic. Work that runs on it shows how much memory it would take: run the
// same work with arenas of this device and look at their peaks.
#pragma once

#include "ops/ops.h"

namespace mor {

/// Addresses are numbers that must not be dereferenced: nothing is read or written, neither for the device nor for the
/// host. Ops that return how many rows they selected return the most that a device could: all of them, in one sequence.
class CountingOps final : public Ops {
 public:
  /// Sizes follow from the dtypes of the device that is to do the work.
  CountingOps(DType compute, DType master) : compute_(compute), master_(master) {}

  const char* name() const override { return "counting"; }
  DType compute_dtype() const override { return compute_; }
  DType master_dtype() const override { return master_; }
  void* allocate(size_t) override { return reinterpret_cast<void*>(kAddress); }
  void release(void*, size_t) noexcept override {}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define MOR_OP(result, name, parameters) \
  result name parameters override {}
#define MOR_COUNT_OP(name, parameters, most) \
  SelectedRows name parameters override {    \
    return {most, most};                     \
  }
#include "ops/op_list.h"
#pragma GCC diagnostic pop

 private:
  static constexpr uintptr_t kAddress = uintptr_t{1} << 20;
  DType compute_, master_;
};

}  // namespace mor
