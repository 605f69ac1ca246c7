// Tensor maps: how Hopper's copies (cuda/tile/tensor_copy.cuh) see a matrix of bf16 in device memory.
#pragma once

#include <initializer_list>

#include "core/tensor.h"
#include "cuda/launch.h"
#include "cuda/tile/bf16.cuh"
#include "cuda/tile/tensor_copy.cuh"

namespace mor::cuda {

/// The columns of every box: a row of it takes 128 bytes.
constexpr int kBoxColumns = 64;

/// A dimension behind the columns: how many indices it has, how many elements lie between two of them, and how many a
/// box has.
struct TensorMapDimension {
  int64_t size, stride;
  int box;
};

/// The map of a tensor of bf16 with `columns` neighbouring elements in its rows and one or two dimensions more, the one
/// with the rows of a box first. data and every stride between two indices: multiples of 16 bytes. A box has at most
/// 256 indices of a dimension. Throws DEVICE_LOST if the driver has no such maps, INTERNAL if it refuses this one.
TensorMap tensor_map(Stream& stream, const bf16* data, int64_t columns,
                     std::initializer_list<TensorMapDimension> dimensions);

/// The map of a matrix in boxes of so many rows.
inline TensorMap tensor_map(Stream& stream, const Tensor& matrix, int box_rows) {
  return tensor_map(stream, matrix.as<bf16>(), matrix.columns(), {{matrix.rows(), matrix.row_stride, box_rows}});
}

}  // namespace mor::cuda
