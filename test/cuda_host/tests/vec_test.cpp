// The width of vectors that kernels use for every kind of tensor; wide stores write the same as narrow ones.
#include "cuda/tile/vec.cuh"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

#include "cuda/tile/shared.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

alignas(16) uint8_t memory[1024];

template <class T>
int width_of(int64_t columns, std::initializer_list<const Tensor*> tensors) {
  int chosen = 0;
  cuda::with_width<T>(columns, tensors, [&](auto width) { chosen = width(); });
  return chosen;
}

Tensor matrix(DType dtype, int64_t rows, int64_t columns, int64_t row_stride) {
  Tensor t = make_tensor(memory, dtype, rows, columns, "matrix");
  t.row_stride = row_stride;
  return t;
}

TEST(Vec, RowsAtMultiplesOf16BytesAreTakenWide) {
  const Tensor vector = make_vector(memory, DType::bfloat16, 64, "weight");
  const Tensor flat = make_vector(memory, DType::float32, 64, "gradient");
  const Tensor wide = matrix(DType::bfloat16, 4, 64, 72), narrow = matrix(DType::bfloat16, 4, 64, 65);
  const Tensor one_row = matrix(DType::bfloat16, 1, 64, 65), none = matrix(DType::bfloat16, 0, 64, 65);
  EXPECT_EQ(width_of<bf16>(64, {&wide, &vector, &one_row, &none}), 8);
  EXPECT_EQ(width_of<float>(64, {&flat}), 4);
  EXPECT_EQ(width_of<bf16>(60, {&wide}), 1);
  EXPECT_EQ(width_of<bf16>(64, {&wide, &narrow}), 1);
  Tensor shifted = vector;
  shifted.data = memory + 2;
  EXPECT_EQ(width_of<bf16>(64, {&shifted}), 1);
}

TEST(Vec, PairsNeedEvenStrides) {
  EXPECT_TRUE(cuda::pairs_aligned(matrix(DType::bfloat16, 4, 64, 66)));
  EXPECT_FALSE(cuda::pairs_aligned(matrix(DType::bfloat16, 4, 64, 65)));
  EXPECT_TRUE(cuda::pairs_aligned(make_vector(memory, DType::float32, 7, "bias")));
}

/// Every thread stores N elements, its number and what follows.
template <int N, class T>
__global__ void count_up(T* to) {
  float value[N];
  for (int i = 0; i < N; ++i) value[i] = static_cast<float>(threadIdx.x * N + i);
  cuda::store(to + threadIdx.x * N, value);
}

template <int N, class T>
void expect_stored() {
  DeviceArray<T> to(32 * N);
  ASSERT_EQ(run(count_up<N, T>, dim3(1), dim3(32), 0, to.data()), "");
  for (size_t i = 0; i < 32 * N; ++i) EXPECT_EQ(cuda::to_float(to[i]), static_cast<float>(i)) << N << " at " << i;
}

TEST(Vec, AnyWidthStoresTheSame) {
  expect_stored<1, float>();
  expect_stored<2, float>();
  expect_stored<4, float>();
  expect_stored<8, float>();
  expect_stored<1, bf16>();
  expect_stored<2, bf16>();
  expect_stored<4, bf16>();
  expect_stored<8, bf16>();
}

void store_to_shared_memory() {
  cuda::store(cuda::dynamic_shared<float>() + 4 * threadIdx.x, {0, 0, 0, 0});
}

TEST(Vec, StoresOfVectorsDoNotReachSharedMemory) {
  const std::string error = run(store_to_shared_memory, dim3(1), dim3(2), 32);
  EXPECT_EQ(error.find("__stwb: the address lies in shared memory"), 0u) << error;
}

}  // namespace
}  // namespace mor::cuda_host::test
