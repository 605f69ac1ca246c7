// The kernel of every op that computes elements independently: it calls a functor for every N neighbouring elements of
// every row.
#pragma once

#include "cuda/launch.h"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

constexpr unsigned kForEachThreads = 256;

template <int N, class Body>
__global__ void __launch_bounds__(kForEachThreads)
    for_each_kernel(int64_t rows, int64_t columns, unsigned column_blocks, const Body body) {
  wait_for_earlier_kernels();
  const int64_t row = static_cast<int64_t>(blockIdx.x / column_blocks) * blockDim.y + threadIdx.y;
  const int64_t column = (static_cast<int64_t>(blockIdx.x % column_blocks) * blockDim.x + threadIdx.x) * N;
  if (row < rows && column < columns) body(row, column);
}

/// Calls body(row, column) on the device for every row and every N-th column; each call computes N columns. columns is
/// a multiple of N. Neighbouring threads have neighbouring columns; if there are many rows, a warp works in one row.
template <int N, class Body>
void for_each(Stream& stream, int64_t rows, int64_t columns, const Body& body) {
  if (rows == 0 || columns == 0) return;
  const unsigned width = rows < 8 ? kForEachThreads : 32;
  const unsigned height = kForEachThreads / width, column_blocks = blocks_for(columns / N, width);
  const unsigned blocks = blocks_for((rows + height - 1) / height * column_blocks, 1);
  launch(for_each_kernel<N, Body>, dim3(blocks), dim3(width, height), 0, stream, rows, columns, column_blocks, body);
}

}  // namespace mor::cuda
