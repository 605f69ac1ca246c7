// Copies rows from one tensor to another, with an index on either side: gather, scatter and cast.
#pragma once

#include "cuda/tile/for_each.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"

namespace mor::cuda {

__device__ __forceinline__ int64_t row_of(const int32_t* index, int64_t row) {
  return index == nullptr ? row : index[row];
}

template <int N, class From, class To>
struct CopyRows {
  Matrix<const From> from;
  const int32_t* from_row;  ///< null: identity
  Matrix<To> to;
  const int32_t* to_row;  ///< null: identity

  __device__ void operator()(int64_t row, int64_t column) const {
    float x[N];
    load(x, from.at(row_of(from_row, row), column));
    store(to.at(row_of(to_row, row), column), x);
  }
};

/// to[to_row[i]] = from[from_row[i]] for i < rows, converted from From to To.
template <class From, class To>
void copy_rows(Stream& stream, int64_t rows, const Tensor& from, const int32_t* from_row, const Tensor& to,
               const int32_t* to_row) {
  using Narrower = std::conditional_t<sizeof(From) < sizeof(To), From, To>;
  with_width<Narrower>(to.columns(), {&from, &to}, [&](auto width) {
    constexpr int N = width();
    for_each<N>(stream, rows, to.columns(),
                CopyRows<N, From, To>{matrix_of<const From>(from), from_row, matrix_of<To>(to), to_row});
  });
}

}  // namespace mor::cuda
