// Matrix and Heads: tensors [rows, columns] and [rows, heads, head_dim] as kernels see them.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "core/tensor.h"

namespace mor::cuda {

/// Rows in device memory, `stride` elements apart.
template <class T>
struct Matrix {
  T* data;  ///< null, like every row's address, if the tensor is empty
  int64_t stride;

  __device__ __forceinline__ T* at(int64_t row, int64_t column = 0) const { return data + row * stride + column; }
};

template <class T>
Matrix<T> matrix_of(const Tensor& tensor) {
  if (!tensor) return {nullptr, 0};
  return {tensor.as<std::remove_const_t<T>>(), tensor.row_stride};
}

/// Rows of heads in device memory: element c of head a of row i is data[i * stride + a * head_dim + c].
template <class T>
struct Heads {
  T* data;
  int64_t stride;
  int heads, head_dim;

  __device__ T* at(int64_t row, int64_t head) const { return data + row * stride + head * head_dim; }
};

template <class T>
Heads<T> heads_of(const Tensor& tensor) {
  return {tensor.as<std::remove_const_t<T>>(), tensor.row_stride, static_cast<int>(tensor.shape[1]),
          static_cast<int>(tensor.shape[2])};
}

}  // namespace mor::cuda
