// Starts the forward products of linear and qkv: makes factors of tensors and chooses the tiles.
#pragma once

#include "core/tensor.h"
#include "cuda/ops/linear_fma.cuh"
#include "cuda/ops/linear_mma.cuh"
#include "cuda/tile/vec.cuh"

namespace mor::cuda {

/// A factor whose rows are the tensor's rows or, transposed, its columns.
inline MmaFactor mma_factor(const Tensor& tensor, bool transposed) {
  return {tensor.as<bf16>(), transposed ? tensor.columns() : tensor.rows(),
          transposed ? tensor.rows() : tensor.columns(), tensor.row_stride};
}
inline FmaFactor fma_factor(const Tensor& tensor, bool transposed) {
  if (transposed) return {tensor.as<float>(), tensor.columns(), tensor.rows(), 1, tensor.row_stride};
  return {tensor.as<float>(), tensor.rows(), tensor.columns(), tensor.row_stride, 1};
}

template <class Shape, bool a_transposed, bool b_transposed, bool aligned, class Right, class Epilogue>
void start_product(Stream& stream, const MmaFactor& a, const Right& b, int64_t splits, const Epilogue& epilogue) {
  const int64_t steps = (a.depth + Shape::depth - 1) / Shape::depth;
  const int64_t split_depth = (steps + splits - 1) / splits * Shape::depth;
  launch(mma_product_kernel<Shape, a_transposed, b_transposed, aligned, Right, Epilogue>,
         dim3(blocks_for(product_tiles<Shape>(a.rows, b.rows), 1), static_cast<unsigned>(splits)), dim3(Shape::threads),
         Shape::shared_bytes, stream, a, b, split_depth, epilogue);
}

inline Gpu gpu_of(Stream& stream) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    stream.check(cudaDeviceGetAttribute(&value, which, stream.device()), "cudaDeviceGetAttribute");
    return value;
  };
  return {attribute(cudaDevAttrMultiProcessorCount),
          static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
}

/// x weight^T; the depth of both lies along their rows. aligned: whether cp.async can load both.
template <class Right, class Epilogue>
void start_forward(Stream& stream, const MmaFactor& x, const Right& weight, bool aligned, const Epilogue& epilogue) {
  if (!aligned) return start_product<MediumProduct, false, false, false>(stream, x, weight, 1, epilogue);
  switch (product_class(x.rows, weight.rows, gpu_of(stream))) {
    case ProductClass::decode:
      return start_product<DecodeProduct, false, false, true>(stream, x, weight, 1, epilogue);
    case ProductClass::narrow:
      return start_product<NarrowProduct, false, false, true>(stream, x, weight, 1, epilogue);
    case ProductClass::medium:
      return start_product<MediumProduct, false, false, true>(stream, x, weight, 1, epilogue);
    case ProductClass::large:
      return start_product<LargeProduct, false, false, true>(stream, x, weight, 1, epilogue);
    case ProductClass::wide:
      return start_product<WideProduct, false, false, true>(stream, x, weight, 1, epilogue);
  }
}

/// Whether cp.async can load both factors.
inline bool async_aligned(const Tensor& a, const Tensor& b) {
  return rows_aligned(a) && rows_aligned(b);
}

}  // namespace mor::cuda
