// Checks that every op's own checks (ops/checks/<op>.h) are made of.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace mor {

inline void check_shape(const char* op, const Tensor& tensor, int64_t rows, int64_t columns) {
  MOR_CHECK(tensor.data != nullptr || rows * columns == 0, INVALID_ARGUMENT, op, ": ", tensor.name, " is empty, but ",
            rows, " x ", columns, " is needed");
  MOR_CHECK(tensor.rows() == rows && tensor.columns() == columns, INVALID_ARGUMENT, op, ": ", tensor.name, " is ",
            tensor.rows(), " x ", tensor.columns(), ", but ", rows, " x ", columns, " is needed");
}

/// n elements without gaps: [n], or [1, n], or [n, 1].
inline void check_vector(const char* op, const Tensor& tensor, int64_t n) {
  MOR_CHECK(tensor.data != nullptr || n == 0, INVALID_ARGUMENT, op, ": ", tensor.name, " is empty, but ", n,
            " elements are needed");
  MOR_CHECK(tensor.count() == n && tensor.contiguous(), INVALID_ARGUMENT, op, ": ", tensor.name, " has ",
            tensor.count(), " elements, but ", n, " are needed");
}

inline void check_dtype(const char* op, const Tensor& tensor, DType dtype) {
  MOR_CHECK(tensor.dtype == dtype, INVALID_ARGUMENT, op, ": ", tensor.name, " is ", dtype_name(tensor.dtype), ", but ",
            dtype_name(dtype), " is needed");
}

}  // namespace mor
