// embedding on the GPU. Forward gathers rows; backward sorts the rows by token (stably) and sums those of each token in
// their order, without atomics.
// Bytes: forward reads and writes R·d elements; backward reads R·d elements, and reads and writes one row of d_weight
// for every token that occurs.
#include <cub/device/device_radix_sort.cuh>

#include "cuda/cuda_ops.h"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/search.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/embedding.h"

namespace mor::cuda {

namespace {

constexpr unsigned kThreads = 128;
constexpr int kAtOnce = 8;  // rows of a token that are loaded at the same time: some tokens have thousands

struct Count {
  int32_t* to;
  __device__ void operator()(int64_t, int64_t i) const { to[i] = static_cast<int32_t>(i); }
};

/// Block (i, column block) adds up the rows of one token in their order, if sorted row i is the first of that token;
/// other blocks have nothing to do.
template <int N, class T>
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(int64_t rows, int64_t d, const int32_t* token /*[R], sorted*/, const int32_t* row /*[R]*/,
                              Matrix<const T> d_out /*[R,d]*/, Matrix<float> d_weight /*[V,d]*/) {
  wait_for_earlier_kernels();
  const int64_t first = blockIdx.x, column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
  const int32_t mine = token[first];
  if (column >= d || (first > 0 && token[first - 1] == mine)) return;
  // Where the rows of this token end.
  const int64_t end = first_where(first + 1, rows, [&](int64_t i) { return token[i] != mine; });
  float sum[N] = {}, value[N];
  for (int64_t i = first; i < end; i += kAtOnce) {
    Vec<T, N> part[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (i + j < end) part[j] = *reinterpret_cast<const Vec<T, N>*>(d_out.at(row[i + j], column));
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (i + j < end) {
        load(value, part[j].v);
#pragma unroll
        for (int c = 0; c < N; ++c) sum[c] += value[c];
      }
  }
  accumulate(d_weight.at(mine, column), sum);
}

/// How many low bits distinguish the numbers below n.
int bits_below(int64_t n) {
  int bits = 1;
  while ((int64_t{1} << bits) < n) ++bits;
  return bits;
}

}  // namespace

void CudaOps::embedding_forward(const int32_t* tokens, const Tensor& weight, const Tensor& out) {
  check_embedding_forward(weight, out);
  gather_rows(weight, tokens, out);
}

void CudaOps::embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) {
  check_embedding_backward(d_out, d_weight);
  const int64_t rows = d_out.rows(), d = d_out.columns();
  if (rows == 0) return;
  const int n = static_cast<int>(rows), bits = bits_below(d_weight.rows());
  const ArenaScope scope(scratch_);
  int32_t* counted = scratch_.array<int32_t>(rows);
  int32_t *token = scratch_.array<int32_t>(rows), *row = scratch_.array<int32_t>(rows);
  for_each<1>(stream_, 1, rows, Count{counted});
  const cudaStream_t stream = stream_.handle();
  size_t bytes = 0;
  stream_.check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, tokens, token, counted, row, n, 0, bits, stream),
                "radix sort");
  void* work = scratch_.allocate(bytes);
  stream_.check(cub::DeviceRadixSort::SortPairs(work, bytes, tokens, token, counted, row, n, 0, bits, stream),
                "radix sort");
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d, {&d_out, &d_weight}, [&](auto width) {
      constexpr int N = width();
      launch(embedding_backward_kernel<N, T>, dim3(blocks_for(rows, 1), blocks_for(d, kThreads * N)), dim3(kThreads), 0,
             stream_, rows, d, token, row, matrix_of<const T>(d_out), matrix_of<float>(d_weight));
    });
  });
}

}  // namespace mor::cuda
