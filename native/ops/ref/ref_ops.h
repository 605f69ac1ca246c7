// RefOps<T>: the scalar reference as a device, T = float, double or std::complex<double> (for the complex step). Its
// ops are the specification that every other device is tested against; each stands in a header beside this one.
#pragma once

#include <complex>
#include <cstdlib>

#include "ops/ops.h"

namespace mor::ref {

/// Everything lies in the host's memory and is computed in T, as simply as the formula allows and never fast. The ops
/// are compiled once, for the three types, by ref_ops.cpp.
template <class T>
class RefOps : public Ops {
 public:
  const char* name() const override { return "ref"; }
  DType compute_dtype() const override { return dtype_of<T>; }
  DType master_dtype() const override { return dtype_of<T>; }

  void* allocate(size_t bytes) override {
    void* pointer = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
    MOR_CHECK(pointer != nullptr, OUT_OF_MEMORY, "no ", bytes, " bytes left");
    return pointer;
  }
  void release(void* pointer, size_t) noexcept override { std::free(pointer); }

#define MOR_OP(result, name, parameters) result name parameters override
#include "ops/op_list.h"
};

}  // namespace mor::ref

namespace mor {
using ref::RefOps;
}
