// rotary on the GPU: rotates pairs in place.
// Bytes: every element of x is read and written once; the table's rows come from the caches.
#include "cuda/cuda_ops.h"
#include "cuda/tile/for_each.cuh"
#include "cuda/tile/head_pairs.cuh"
#include "cuda/tile/vec.cuh"
#include "cuda/tile/views.cuh"
#include "ops/checks/rotary.h"

namespace mor::cuda {

namespace {

/// A column stands for a pair: column c is pair c % half of head c / half.
template <int N, class T>
struct Rotary {
  Matrix<T> x;                ///< [R, heads, 2 half]
  const int32_t* position;    ///< [R]
  Matrix<const float> table;  ///< [positions, 2 half]: cosines, then sines
  int half;
  float direction;

  __device__ void operator()(int64_t row, int64_t column) const {
    const int pair = static_cast<int>(column) % half;
    T* first = x.at(row, (column - pair) * 2 + pair);
    const float* angles = table.at(position[row], pair);
    float a[N], b[N], cosine[N], sine[N];
    load(a, first);
    load(b, first + half);
    load(cosine, angles);
    load(sine, angles + half);
#pragma unroll
    for (int i = 0; i < N; ++i) rotate(a[i], b[i], cosine[i], direction * sine[i]);
    store(first, a);
    store(first + half, b);
  }
};

}  // namespace

void CudaOps::rotary(const Tensor& x, const int32_t* position, const Tensor& table, int direction) {
  check_rotary(x, table, direction);
  const int64_t half = table.columns() / 2;
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    with_width<T>(half, {&x, &table}, [&](auto width) {
      constexpr int N = width();
      for_each<N>(stream_, x.rows(), x.columns() / 2,
                  Rotary<N, T>{matrix_of<T>(x), position, matrix_of<const float>(table), static_cast<int>(half),
                               static_cast<float>(direction)});
    });
  });
}

}  // namespace mor::cuda
