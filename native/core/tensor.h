// Tensor: a typed view of memory that somebody else owns.
#pragma once

#include <cstdint>

#include "core/check.h"
#include "core/dtype.h"

namespace mor {

/// A view of up to four extents. The first extent counts rows; rows lie `row_stride` elements apart, and inside a row
/// everything is contiguous. So columns of a wider buffer (q, k, v of a fused projection) are views too.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::float32;
  int32_t rank = 0;
  int64_t shape[4] = {0, 0, 0, 0};
  int64_t row_stride = 0;
  const char* name = "tensor";  ///< for error messages; a string literal or memory that outlives the view

  explicit operator bool() const { return data != nullptr; }

  int64_t rows() const { return shape[0]; }
  /// Elements of one row.
  int64_t columns() const {
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t count() const { return rows() * columns(); }
  bool contiguous() const { return row_stride == columns() || rows() <= 1; }

  template <class T>
  T* as() const {
    MOR_CHECK(dtype == dtype_of<T>, INTERNAL, name, " holds ", dtype_name(dtype), ", but ", dtype_name(dtype_of<T>),
              " was asked for");
    return static_cast<T*>(data);
  }

  /// Rows [begin, begin + n).
  Tensor slice(int64_t begin, int64_t n) const {
    MOR_CHECK(begin >= 0 && n >= 0 && begin + n <= rows(), INTERNAL, name, ": rows ", begin, "..", begin + n, " of ",
              rows());
    Tensor view = *this;
    view.data = static_cast<char*>(data) + begin * row_stride * static_cast<int64_t>(dtype_size(dtype));
    view.shape[0] = n;
    return view;
  }

  /// Columns [begin, begin + n) of every row, as shape [rows, n].
  Tensor column_range(int64_t begin, int64_t n) const {
    MOR_CHECK(begin >= 0 && n >= 0 && begin + n <= columns(), INTERNAL, name, ": columns ", begin, "..", begin + n,
              " of ", columns());
    Tensor view = *this;
    view.data = static_cast<char*>(data) + begin * static_cast<int64_t>(dtype_size(dtype));
    view.rank = 2;
    view.shape[1] = n;
    view.shape[2] = view.shape[3] = 0;
    return view;
  }

  /// The same rows, each seen as [heads, head_dim].
  Tensor heads(int64_t head_dim) const {
    MOR_CHECK(head_dim > 0 && columns() % head_dim == 0, INTERNAL, name, ": ", columns(), " columns in heads of ",
              head_dim);
    Tensor view = *this;
    const int64_t n = columns() / head_dim;
    view.rank = 3;
    view.shape[1] = n;
    view.shape[2] = head_dim;
    view.shape[3] = 0;
    return view;
  }

  /// A vector as each of n rows, [n, count()].
  Tensor repeated(int64_t n) const {
    Tensor view = *this;
    view.rank = 2;
    view.shape[1] = count();
    view.shape[0] = n;
    view.row_stride = 0;
    return view;
  }

  Tensor named(const char* new_name) const {
    Tensor view = *this;
    view.name = new_name;
    return view;
  }
};

inline Tensor make_tensor(void* data, DType dtype, int64_t rows, int64_t columns, const char* name) {
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.rank = 2;
  t.shape[0] = rows;
  t.shape[1] = columns;
  t.row_stride = columns;
  t.name = name;
  return t;
}

/// A vector: rank 1, one element a row.
inline Tensor make_vector(void* data, DType dtype, int64_t n, const char* name) {
  Tensor t;
  t.data = data;
  t.dtype = dtype;
  t.rank = 1;
  t.shape[0] = n;
  t.row_stride = 1;
  t.name = name;
  return t;
}

}  // namespace mor
