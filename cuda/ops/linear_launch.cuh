// Starts the forward products of linear, qkv and swiglu: makes factors of tensors and chooses the tiles.
#pragma once

#include "core/tensor.h"
#include "cuda/gpu.h"
#include "cuda/ops/linear_fma.cuh"
#include "cuda/ops/linear_mma.cuh"
#include "cuda/ops/linear_wgmma.cuh"
#include "cuda/tensor_map.h"
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

/// The length of each of `splits` parts of the depth.
template <class Shape>
int64_t split_depth_of(int64_t depth, int64_t splits) {
  const int64_t steps = (depth + Shape::depth - 1) / Shape::depth;
  return (steps + splits - 1) / splits * Shape::depth;
}

template <class Shape, bool a_transposed, bool b_transposed, bool aligned, class Right, class Epilogue>
void start_product(Stream& stream, const MmaFactor& a, const Right& b, int64_t splits, const Epilogue& epilogue) {
  const int64_t split_depth = split_depth_of<Shape>(a.depth, splits);
  launch(mma_product_kernel<Shape, a_transposed, b_transposed, aligned, Right, Epilogue>,
         dim3(blocks_for(product_tiles<Shape>(a.rows, b.rows), 1), static_cast<unsigned>(splits)), dim3(Shape::threads),
         Shape::shared_bytes, stream, a, b, split_depth, epilogue);
}

/// Whether wgmma_product_kernel can load the factor. Its rows begin at multiples of 16 bytes.
inline bool wgmma_loads(const MmaFactor&) {
  return true;
}
template <class Pairs>
bool wgmma_loads(const PairedMmaFactor<Pairs>& factor) {
  return factor.pairs.keep_heads_whole(kPairWidth);
}

/// In boxes of so many rows and 64 of the depth, or, transposed, 64 of both.
inline TensorMap factor_map(Stream& stream, const MmaFactor& f, bool transposed, int rows) {
  return transposed ? tensor_map(stream, f.data, f.rows, {{f.depth, f.stride, 64}})
                    : tensor_map(stream, f.data, f.depth, {{f.rows, f.stride, rows}});
}
/// In boxes of kPairWidth pairs, their first rows before their second ones.
template <class Pairs>
TensorMap factor_map(Stream& stream, const PairedMmaFactor<Pairs>& f, bool, int) {
  const int64_t half = f.pairs.half;
  return tensor_map(stream, f.data, f.depth, {{half, f.stride, kPairWidth}, {f.rows / half, half * f.stride, 2}});
}

/// The same by Hopper's instructions.
template <class Shape, bool a_transposed, bool b_transposed, class Right, class Epilogue>
void start_wgmma_product(Stream& stream, const Gpu& gpu, const MmaFactor& a, const Right& b, int64_t splits,
                         const Epilogue& epilogue) {
  using Product = WgmmaProduct<decltype(pairs_of(b))>;
  constexpr int64_t kBlocks = Shape::cluster;
  const int64_t tiles = product_tiles<Shape>(a.rows, b.rows);
  const int64_t clusters = std::min(tiles * splits, gpu.multiprocessors / kBlocks);
  if (tiles == 0) return;
  const Product product{a.rows, b.rows, a.depth, split_depth_of<Shape>(a.depth, splits), splits, tiles, pairs_of(b)};
  launch<Shape::cluster>(wgmma_product_kernel<Shape, a_transposed, b_transposed, Product, Epilogue>,
                         dim3(blocks_for(kBlocks * clusters, 1)), dim3(Shape::threads), Shape::shared_bytes, stream,
                         factor_map(stream, a, a_transposed, Shape::rows),
                         factor_map(stream, b, b_transposed, Shape::columns / Shape::cluster), product, epilogue);
}

/// x weight^T; the depth of both lies along their rows. aligned: whether cp.async can load both.
template <class Right, class Epilogue>
void start_forward(Stream& stream, const MmaFactor& x, const Right& weight, bool aligned, const Epilogue& epilogue) {
  if (!aligned) return start_product<MediumProduct, false, false, false>(stream, x, weight, 1, epilogue);
  Gpu gpu = gpu_of(stream);
  gpu.hopper = gpu.hopper && wgmma_loads(weight);
  switch (product_class(x.rows, weight.rows, gpu)) {
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
    case ProductClass::hopper:
      return start_wgmma_product<HopperProduct, false, false>(stream, gpu, x, weight, 1, epilogue);
    case ProductClass::hopper_wide:
      return start_wgmma_product<HopperWideProduct, false, false>(stream, gpu, x, weight, 1, epilogue);
  }
}

/// Whether cp.async can load both factors.
inline bool async_aligned(const Tensor& a, const Tensor& b) {
  return rows_aligned(a) && rows_aligned(b);
}

/// x weight^T, whose columns the epilogue takes in its pairs.
template <class T, class Epilogue>
void start_paired_forward(Stream& stream, const Tensor& x, const Tensor& weight, const Epilogue& epilogue) {
  using Pairs = decltype(epilogue.pairs);
  if constexpr (std::is_same_v<T, bf16>)
    start_forward(stream, mma_factor(x, false), PairedMmaFactor<Pairs>{mma_factor(weight, false), epilogue.pairs},
                  async_aligned(x, weight), epilogue);
  else
    multiply(stream, fma_factor(x, false), PairedFmaFactor<Pairs>{fma_factor(weight, false), epilogue.pairs}, epilogue);
}

}  // namespace mor::cuda
