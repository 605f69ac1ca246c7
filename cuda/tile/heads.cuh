// Heads: a tensor [rows, heads, head_dim] as kernels see it.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "core/tensor.h"

namespace mor::cuda {

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
