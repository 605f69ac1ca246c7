// The second step of every sum over rows: adds up the partial sums of a kernel's blocks in a fixed order.
#pragma once

#include "cuda/launch.h"
#include "cuda/tile/earlier_kernels.cuh"

namespace mor::cuda {

constexpr unsigned kPartialColumns = 32, kPartialStripes = 32;

/// out[(c / row) * out_stride + c % row] += the sum over p < parts of partial[p, c], for c < columns. The threads of
/// one stripe sum every kPartialStripes-th part, then the stripes are added in order.
template <class T>
__global__ void __launch_bounds__(kPartialColumns* kPartialStripes)
    add_partials_kernel(const T* partial /*[parts, columns]*/, int64_t parts, int64_t columns, float* out, int64_t row,
                        int64_t out_stride) {
  wait_for_earlier_kernels();
  __shared__ T stripes[kPartialStripes][kPartialColumns];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kPartialColumns + threadIdx.x;
  T sum = 0;
  if (column < columns)
#pragma unroll 8
    for (int64_t p = threadIdx.y; p < parts; p += kPartialStripes) sum += partial[p * columns + column];
  stripes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (unsigned stripe = 1; stripe < kPartialStripes; ++stripe) sum += stripes[stripe][threadIdx.x];
  float& target = out[column / row * out_stride + column % row];
  target = static_cast<float>(target + sum);
}

/// out [columns / row, row] += the sum of partial [parts, columns] over its parts; rows of out lie out_stride apart.
template <class T>
void add_partials(Stream& stream, const T* partial, int64_t parts, int64_t columns, float* out, int64_t row,
                  int64_t out_stride) {
  if (parts == 0) return;
  launch(add_partials_kernel<T>, dim3(blocks_for(columns, kPartialColumns)), dim3(kPartialColumns, kPartialStripes), 0,
         stream, partial, parts, columns, out, row, out_stride);
}

}  // namespace mor::cuda
