// The host versions of cuda/tile: matrix products of fragments against the plain sum, for every way of loading them.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "cuda/tile/mma.cuh"
#include "cuda/tile/shared.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

using cuda::dynamic_shared;

/// d [16,8] = a [16,16] b [16,8] by one warp, with b as [16,8] and, for d_transposed, as [8,16]. All three are loaded
/// to shared memory by cp.async.
__global__ void multiply(const bf16* a, const bf16* b, const bf16* b_transposed, float* d, float* d_transposed) {
  bf16* shared = dynamic_shared<bf16>();
  bf16 *a_tile = shared, *b_tile = shared + 256, *t_tile = shared + 384;
  const int lane = static_cast<int>(threadIdx.x);
  cuda::async_copy16(a_tile + lane * 8, a + lane * 8);
  if (lane < 16) cuda::async_copy16(b_tile + lane * 8, b + lane * 8);
  if (lane < 16) cuda::async_copy16(t_tile + lane * 8, b_transposed + lane * 8);
  cuda::async_copy_commit();
  cuda::async_copy_wait<0>();
  __syncwarp();
  // Matrices 0 and 1 of a are its upper left and lower left quarters, 2 and 3 the upper right and lower right ones.
  uint32_t left[4], right[4], right_of_transposed[4];
  cuda::load_matrix_x4(left, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  cuda::load_matrix_x4<true>(right, b_tile + (lane % 16) * 8);
  cuda::load_matrix_x4(right_of_transposed, t_tile + (lane % 8) * 16 + lane / 8 % 2 * 8);
  float sum[4] = {}, sum_transposed[4] = {};
  cuda::mma_16x8x16(sum, left, {right[0], right[1]});
  cuda::mma_16x8x16(sum_transposed, left, {right_of_transposed[0], right_of_transposed[1]});
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    d[row * 8 + column] = sum[i];
    d_transposed[row * 8 + column] = sum_transposed[i];
  }
}

template <class T>
void upload(const DeviceArray<T>& to, const std::vector<T>& from) {
  ASSERT_EQ(cudaMemcpyAsync(to.data(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, nullptr),
            cudaSuccess);
}

TEST(Tile, FragmentsMultiplyAsMatrices) {
  std::mt19937 generator(1);
  std::vector<bf16> a(256), b(128), b_transposed(128);
  const auto number = [&] { return static_cast<float>(static_cast<int>(generator() % 33) - 16); };  // exact sums
  const auto as_bf16 = [](float x) { return bf16{bfloat16(x).bits}; };
  for (bf16& x : a) x = as_bf16(number());
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < 8; ++j)
      b[static_cast<size_t>(k * 8 + j)] = b_transposed[static_cast<size_t>(j * 16 + k)] = as_bf16(number());
  DeviceArray<bf16> device_a(256), device_b(128), device_t(128);
  DeviceArray<float> d(128), d_transposed(128);
  upload(device_a, a);
  upload(device_b, b);
  upload(device_t, b_transposed);
  EXPECT_EQ(run(multiply, dim3(1), dim3(32), 1024, device_a.data(), device_b.data(), device_t.data(), d.data(),
                d_transposed.data()),
            "");
  for (size_t i = 0; i < 16; ++i)
    for (size_t j = 0; j < 8; ++j) {
      float sum = 0;
      for (size_t k = 0; k < 16; ++k) sum += cuda::to_float(a[i * 16 + k]) * cuda::to_float(b[k * 8 + j]);
      EXPECT_EQ(d[i * 8 + j], sum) << i << "," << j;
      EXPECT_EQ(d_transposed[i * 8 + j], sum) << i << "," << j;
    }
}

__global__ void misaligned() {
  uint32_t to[4];
  cuda::load_matrix_x4(to, dynamic_shared<char>() + 8);
}

TEST(Tile, MisalignedRowsAreErrors) {
  EXPECT_NE(run(misaligned, dim3(1), dim3(32), 64).find("ldmatrix: an address is no multiple of 16"),
            std::string::npos);
}

}  // namespace
}  // namespace mor::cuda_host::test
