// OnednnMatmul: matrix products by oneDNN, their primitives kept by shape. Must not know of tensors or ops.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"

namespace mor::MOR_CPU_ISA {

/// c = a b + addend, a [m,k], b [k,n], c [m,n]: everything about a product but where its matrices lie, so the key of
/// its primitive. Strides are in elements; one of a matrix's two strides is 1.
struct Product {
  enum class Addend : int64_t { none, c, matrix };

  int64_t m = 0, n = 0, k = 0;
  int64_t a_row = 0, a_column = 1;
  int64_t b_row = 0, b_column = 1;
  int64_t c_row = 0;
  Addend addend = Addend::none;  ///< c: what c held before; matrix: [m,n] of the inputs' dtype
  int64_t addend_row = 0;
  DType input = DType::float32;  ///< of a, b and the addend matrix
  DType output = DType::float32;

  bool operator==(const Product&) const = default;
};

class OnednnMatmul {
 public:
  OnednnMatmul();
  ~OnednnMatmul();

  /// Runs the product in slices of its output, as many as `threads`, each slice by oneDNN on the one thread that has
  /// it. addend: null unless it is a matrix.
  void multiply(const Product& product, const void* a, const void* b, const void* addend, void* c, int threads);

 private:
  class Slice;
  std::vector<std::unique_ptr<Slice>> slices_;
};

}  // namespace mor::MOR_CPU_ISA
