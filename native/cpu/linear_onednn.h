// OnednnMatmul: matrix products by oneDNN, whose primitives are cached by shape.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"

namespace mor::MOR_CPU_ISA {

/// The product c = a b + addend with a [m,k], b [k,n], c [m,n]: all that its primitive depends on, which is everything
/// but addresses. Strides are in elements; one of the two strides of a matrix is 1.
struct Product {
  enum class Addend : int64_t { none, c, matrix };

  int64_t m = 0, n = 0, k = 0;
  int64_t a_row = 0, a_column = 1;
  int64_t b_row = 0, b_column = 1;
  int64_t c_row = 0;
  Addend addend = Addend::none;  ///< c: what c held before; matrix: [m,n] or [1,n] of the inputs' dtype
  int64_t addend_row = 0;        ///< 0: one row, added to all
  DType input = DType::float32;  ///< of a, b and the addend matrix
  DType output = DType::float32;

  bool operator==(const Product&) const = default;
};

class OnednnMatmul {
 public:
  OnednnMatmul();
  ~OnednnMatmul();

  /// Cuts the output into as many slices as `threads`; oneDNN computes each on the thread that takes it. addend: null
  /// unless product.addend is matrix.
  void multiply(const Product& product, const void* a, const void* b, const void* addend, void* c, int threads);

 private:
  class Slice;
  std::vector<std::unique_ptr<Slice>> slices_;
};

}  // namespace mor::MOR_CPU_ISA
