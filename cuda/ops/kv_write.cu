// kv_write on the GPU: copies rows into the slots of a cache.
// Bytes: forward reads and writes every element once; backward reads it once and writes it twice.
#include "cuda/cuda_ops.h"
#include "cuda/tile/copy_rows.cuh"
#include "ops/checks/kv_write.h"

namespace mor::cuda {

namespace {

template <int N, class T>
struct KvWriteBackward {
  Matrix<T> d_cache;    ///< [slots, n]
  const int32_t* slot;  ///< [R]
  Matrix<T> d_x;        ///< [R, n]

  __device__ void operator()(int64_t row, int64_t column) const {
    T* cached = d_cache.at(row_of(slot, row), column);
    float d[N];
    load(d, cached);
    store(d_x.at(row, column), d);
    const float nothing[N] = {};
    store(cached, nothing);
  }
};

}  // namespace

void CudaOps::kv_write(const Tensor& x, const int32_t* slot, const Tensor& cache) {
  check_kv_write(x, cache);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    copy_rows<T, T>(stream_, x.rows(), x, nullptr, cache, slot);
  });
}

void CudaOps::kv_write_backward(const Tensor& d_cache, const int32_t* slot, const Tensor& d_x) {
  check_kv_write_backward(d_cache, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(d_x.columns(), {&d_cache, &d_x}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, d_x.rows(), d_x.columns(),
                  KvWriteBackward<N, T>{matrix_of<T>(d_cache), slot, matrix_of<T>(d_x)});
    });
  });
}

}  // namespace mor::cuda
