// Loads and stores of several neighbouring elements at once, up to 16 bytes in one instruction.
#pragma once

#include <initializer_list>
#include <type_traits>

#include "core/tensor.h"
#include "cuda/tile/bf16.cuh"

namespace mor::cuda {

/// N neighbouring elements, aligned as a single load or store of up to 16 bytes needs it.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Vec {
  T v[N];
};

template <int N, class T>
__device__ __forceinline__ void load(float (&to)[N], const T* from) {
  const Vec<T, N> vec = *reinterpret_cast<const Vec<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = to_float(vec.v[i]);
}

/// Stores to global memory. Vectors of 16 bytes use __stwb, since the compiler splits an assignment of them into words.
template <int N>
__device__ __forceinline__ void store(float* to, const float (&from)[N]) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4)
      __stwb(reinterpret_cast<float4*>(to + i), make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]));
  } else {
    Vec<float, N> vec;
#pragma unroll
    for (int i = 0; i < N; ++i) vec.v[i] = from[i];
    *reinterpret_cast<Vec<float, N>*>(to) = vec;
  }
}
template <int N>
__device__ __forceinline__ void store(bf16* to, const float (&from)[N]) {
  if constexpr (N == 1) {
    *to = from_float<bf16>(from[0]);
  } else if constexpr (N == 8) {
    __stwb(reinterpret_cast<uint4*>(to), make_uint4(pack_bf16(from[0], from[1]), pack_bf16(from[2], from[3]),
                                                    pack_bf16(from[4], from[5]), pack_bf16(from[6], from[7])));
  } else {
    Vec<uint32_t, N / 2> vec;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) vec.v[i] = pack_bf16(from[2 * i], from[2 * i + 1]);
    *reinterpret_cast<Vec<uint32_t, N / 2>*>(to) = vec;
  }
}

/// Reads or writes columns `column` and column + 1 of a row, those that the row has. pairs: whether such two can be
/// read and written at once (pairs_aligned).
template <class T, class Column>
__device__ __forceinline__ void load_pair(float (&to)[2], const T* row, Column column, Column columns, bool pairs) {
  if (pairs && column + 1 < columns) return load(to, row + column);
  to[0] = column < columns ? to_float(row[column]) : 0.0f;
  to[1] = column + 1 < columns ? to_float(row[column + 1]) : 0.0f;
}
template <class T, class Column>
__device__ __forceinline__ void store_pair(T* row, Column column, Column columns, bool pairs, const float (&from)[2]) {
  if (pairs && column + 1 < columns) return store(row + column, from);
  if (column < columns) row[column] = from_float<T>(from[0]);
  if (column + 1 < columns) row[column + 1] = from_float<T>(from[1]);
}

/// to += values.
template <int N>
__device__ __forceinline__ void accumulate(float* to, const float (&values)[N]) {
  float sum[N];
  load(sum, to);
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] += values[i];
  store(to, sum);
}

/// How many elements of T 16 bytes hold.
template <class T>
constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

/// Whether every row of the tensor begins at a multiple of so many bytes. A vector counts as one row; an empty tensor
/// always passes.
inline bool rows_at_multiples(const Tensor& tensor, size_t bytes) {
  const size_t stride = static_cast<size_t>(tensor.row_stride) * dtype_size(tensor.dtype);
  return reinterpret_cast<uintptr_t>(tensor.data) % bytes == 0 &&
         (tensor.rank == 1 || tensor.rows() <= 1 || stride % bytes == 0);
}
inline bool rows_aligned(const Tensor& tensor) {
  return rows_at_multiples(tensor, 16);
}
/// Whether the elements of columns 2i and 2i + 1 can be read and written at once.
inline bool pairs_aligned(const Tensor& tensor) {
  return rows_at_multiples(tensor, 2 * dtype_size(tensor.dtype));
}

/// Runs body(width) with the vector width of T if rows of `columns` elements are made of aligned vectors in all of
/// these tensors, else with width 1: with_width<T>(n, {&x, &y}, [&](auto width) { constexpr int N = width(); … }).
template <class T, class Body>
void with_width(int64_t columns, std::initializer_list<const Tensor*> tensors, const Body& body) {
  bool wide = columns % kVectorWidth<T> == 0;
  for (const Tensor* tensor : tensors) wide = wide && rows_aligned(*tensor);
  if (wide)
    body(std::integral_constant<int, kVectorWidth<T>>{});
  else
    body(std::integral_constant<int, 1>{});
}

}  // namespace mor::cuda
