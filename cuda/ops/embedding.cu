// embedding on the GPU. Forward gathers rows; backward sorts the rows by token (stably) and sums those of each token in
// their order, without atomics.
// Bytes: forward reads and writes R·d elements; backward reads R·d elements, and reads and writes one row of d_weight
// for every token that occurs.
#include <cub/device/device_radix_sort.cuh>

#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
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
                              const T* d_out /*[R,d]*/, int64_t d_out_stride, float* d_weight /*[V,d]*/,
                              int64_t d_weight_stride) {
  const int64_t first = blockIdx.x, column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * N;
  const int32_t mine = token[first];
  if (column >= d || (first > 0 && token[first - 1] == mine)) return;
  int64_t end = first + 1;  // where the rows of this token end
  for (int64_t other = rows; end < other;) {
    const int64_t middle = end + (other - end) / 2;
    if (token[middle] == mine)
      end = middle + 1;
    else
      other = middle;
  }
  float sum[N] = {}, value[N];
  for (int64_t i = first; i < end; i += kAtOnce) {
    Vec<T, N> part[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (i + j < end) part[j] = *reinterpret_cast<const Vec<T, N>*>(d_out + row[i + j] * d_out_stride + column);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j)
      if (i + j < end) {
        load(value, part[j].v);
#pragma unroll
        for (int c = 0; c < N; ++c) sum[c] += value[c];
      }
  }
  accumulate(d_weight + mine * d_weight_stride + column, sum);
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
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    copy_rows<T, T>(stream_, out.rows(), weight, tokens, out, nullptr);
  });
}

void CudaOps::embedding_backward(const int32_t* tokens, const Tensor& d_out, const Tensor& d_weight) {
  check_embedding_backward(d_out, d_weight);
  const int64_t rows = d_out.rows(), d = d_out.columns();
  if (rows == 0) return;
  const int n = static_cast<int>(rows), bits = bits_below(d_weight.rows());
  const ArenaScope scope(scratch_);
  const auto integers = [&] {
    return static_cast<int32_t*>(scratch_.allocate(static_cast<size_t>(rows) * sizeof(int32_t)));
  };
  int32_t *counted = integers(), *token = integers(), *row = integers();
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
             stream_, rows, d, token, row, d_out.as<T>(), d_out.row_stride, d_weight.as<float>(), d_weight.row_stride);
    });
  });
}

}  // namespace mor::cuda
