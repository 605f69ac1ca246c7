// Tiles of matrices in shared memory: what a GPU reads or writes of a MatrixTile at the same time lies in different
// banks; TMA fills tiles and wgmma multiplies them, and mistakes in their use are found.
#include "cuda/tile/matrix_tile.cuh"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "cuda/tensor_map.h"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/wgmma.cuh"
#include "test/cuda_host/tests/run_kernel.h"

namespace mor::cuda_host::test {
namespace {

constexpr int kAtOnce = 8;  ///< chunks of 16 bytes that the 32 banks of 4 bytes transfer at the same time

/// Which eighth of the banks a chunk uses.
int banks(const bf16* tile, const bf16* chunk) {
  return static_cast<int>((chunk - tile) / 8 % kAtOnce);
}

template <int kRows, int kColumns>
void expect_no_conflict() {
  using Tile = cuda::MatrixTile<kRows, kColumns>;
  SCOPED_TRACE(std::to_string(kRows) + " x " + std::to_string(kColumns));
  std::vector<bf16> memory(Tile::elements);
  const Tile tile{memory.data()};

  for (int row = 0; row < kRows; row += kAtOnce)  // ldmatrix reads the same chunk of neighbouring rows
    for (int chunk = 0; chunk < Tile::chunks; ++chunk) {
      std::set<int> taken;
      for (int i = 0; i < kAtOnce; ++i) taken.insert(banks(tile.data, tile.chunk(row + i, chunk)));
      EXPECT_EQ(taken.size(), kAtOnce) << "ldmatrix, row " << row << ", chunk " << chunk;
    }

  std::set<const bf16*> places;
  // cp.async of neighbouring lanes writes neighbouring chunks.
  for (int first = 0; first < kRows * Tile::chunks; first += kAtOnce) {
    std::set<int> taken;
    for (int i = first; i < first + kAtOnce; ++i) {
      const bf16* chunk = tile.chunk(i / Tile::chunks, i % Tile::chunks);
      taken.insert(banks(tile.data, chunk));
      places.insert(chunk);
    }
    EXPECT_EQ(taken.size(), kAtOnce) << "cp.async, chunk " << first;
  }
  EXPECT_EQ(places.size(), static_cast<size_t>(kRows * Tile::chunks));
  EXPECT_EQ(*places.begin(), tile.data);
  EXPECT_EQ(*places.rbegin(), tile.data + Tile::elements - 8);
}

TEST(MatrixTile, WhatIsTakenAtOnceLiesInDifferentBanks) {
  expect_no_conflict<64, 16>();
  expect_no_conflict<64, 32>();
  expect_no_conflict<128, 64>();
  expect_no_conflict<64, 128>();
  expect_no_conflict<32, 256>();
}

using cuda::Mbarrier, cuda::TensorMap, cuda::wgmma_tile, cuda::kWarpgroup;

constexpr int kRows = 64, kDepth = 64, kPanel = 64 * 128;  ///< kPanel: bytes
constexpr int kTensorDepth = 56;                           ///< the rest of a box is zeros

/// Small integers, so that sums are exact in any order.
float left_at(int row, int k) {
  return static_cast<float>((row * 5 + k * 3) % 7 - 3);
}
float right_at(int column, int k) {
  return static_cast<float>((column * 5 + k * 2) % 9 - 4);
}

/// A matrix of bf16 in device memory, and its map.
class Operand {
 public:
  /// element(row, k); transposed: the tensor is [kTensorDepth, rows].
  Operand(float (*element)(int, int), int rows, bool transposed, int box_rows)
      : stream_(0), data_(static_cast<size_t>(rows * kTensorDepth)) {
    std::vector<bfloat16> values;
    for (int i = 0; i < rows * kTensorDepth; ++i)
      values.emplace_back(transposed ? element(i % rows, i / rows) : element(i / kTensorDepth, i % kTensorDepth));
    cudaMemcpyAsync(data_.data(), values.data(), values.size() * sizeof(bfloat16), cudaMemcpyHostToDevice, nullptr);
    const int columns = transposed ? rows : kTensorDepth;
    map = tensor_map(stream_, data_.data(), columns, {{transposed ? kTensorDepth : rows, columns, box_rows}});
  }
  TensorMap map;

 private:
  cuda::Stream stream_;
  DeviceArray<bf16> data_;
};

/// The left factor of one row, as registers hold it.
void left_registers(uint32_t (&a)[4], int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  for (int i = 0; i < 4; ++i) {
    const int r = row + i % 2 * 8, depth = k + i / 2 * 8 + lane % 4 * 2;
    const auto at = [&](int d) { return d < kTensorDepth ? left_at(r, d) : 0.0f; };
    a[i] = cuda::pack_bf16(at(depth), at(depth + 1));
  }
}

/// out [kRows, columns] = 1 + a b^T; early: the sums before the wait.
template <int columns, bool a_transposed, bool b_transposed, bool a_in_registers>
void multiply(const TensorMap a, const TensorMap b, float* out, float* early) {
  constexpr int kPanels = b_transposed ? (columns + 63) / 64 : 1, kBytes = b_transposed ? kPanel : columns * 128;
  char* shared = cuda::dynamic_shared<char>();
  char *left = shared, *right = shared + kPanel;
  Mbarrier& full = *reinterpret_cast<Mbarrier*>(right + kPanels * kBytes);
  if (threadIdx.x == 0) {
    mbarrier_init(full, 1);
    cuda::mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_bytes(full, kPanel + kPanels * kBytes);
    tensor_copy_load(left, a, 0, 0, full);
    for (int p = 0; p < kPanels; ++p) tensor_copy_load(right + p * kBytes, b, 64 * p, 0, full);
  }
  mbarrier_wait(full, 0);
  float d[columns / 2];
  for (float& x : d) x = 1;
  cuda::wgmma_arrive();
  for (int k = 0; k < kDepth; k += 16) {
    const cuda::WgmmaTile of_right = wgmma_tile<b_transposed>(right, kPanel).advance(k);
    if constexpr (a_in_registers) {
      uint32_t of_left[4];
      left_registers(of_left, k);
      cuda::wgmma<columns, b_transposed>(d, of_left, of_right);
    } else {
      cuda::wgmma<columns, a_transposed, b_transposed>(d, wgmma_tile<a_transposed>(left).advance(k), of_right);
    }
  }
  cuda::wgmma_commit();
  early[threadIdx.x] = d[5];
  cuda::wgmma_wait<0>();
  cuda::wgmma_hold(d);
  const int lane = static_cast<int>(threadIdx.x) % 32, row = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
  for (int i = 0; i < columns / 2; ++i) out[(row + i / 2 % 2 * 8) * columns + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
}

template <int columns, bool a_transposed, bool b_transposed, bool a_in_registers = false>
void expect_product() {
  SCOPED_TRACE(concat(columns, " columns, transposed ", a_transposed, b_transposed, ", in registers ", a_in_registers));
  const Operand a(left_at, kRows, a_transposed, kDepth),
      b(right_at, columns, b_transposed, b_transposed ? kDepth : columns);
  DeviceArray<float> out(static_cast<size_t>(kRows * columns)), early(kWarpgroup);
  constexpr size_t kShared = kPanel + (columns + 63) / 64 * kPanel + sizeof(Mbarrier);
  const auto kernel = multiply<columns, a_transposed, b_transposed, a_in_registers>;
  ASSERT_EQ(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), cudaSuccess);
  ASSERT_EQ(run(kernel, dim3(1), dim3(kWarpgroup), kShared, a.map, b.map, out.data(), early.data()), "");
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < columns; ++column) {
      float expected = 1;
      for (int k = 0; k < kTensorDepth; ++k) expected += left_at(row, k) * right_at(column, k);
      ASSERT_EQ(out[static_cast<size_t>(row * columns + column)], expected) << row << ", " << column;
    }
  EXPECT_TRUE(std::isnan(early[0])) << "sums are not there before the wait";
}

TEST(Wgmma, MultipliesTilesThatAreLoaded) {
  expect_product<64, false, false>();
  expect_product<96, true, false>();
  expect_product<128, false, true>();
  expect_product<192, true, true>();
  expect_product<256, false, false>();
  expect_product<128, false, false, true>();
  expect_product<256, false, true, true>();
}

enum class Mistake {
  none,
  no_arrive,
  not_waited_for,
  sums_written,
  not_aligned,
  beyond_shared_memory,
  no_swizzle,
  another_product,
  not_transposed,
};

void multiply_wrongly(Mistake mistake) {
  char* shared = cuda::dynamic_shared<char>();
  float d[32] = {};
  cuda::WgmmaTile left = wgmma_tile(shared), right = wgmma_tile(shared + kPanel);
  if (mistake == Mistake::not_aligned) left = wgmma_tile(shared + 128);
  if (mistake == Mistake::beyond_shared_memory) right = wgmma_tile(shared + kPanel + 1024);
  if (mistake == Mistake::no_swizzle) left.descriptor &= ~(uint64_t{3} << 62);
  if (mistake == Mistake::another_product && threadIdx.x >= 64) left = left.advance(16);
  if (mistake == Mistake::not_transposed) left = wgmma_tile<true>(shared);
  if (mistake != Mistake::no_arrive) cuda::wgmma_arrive();
  cuda::wgmma<64, false, false>(d, left, right);
  cuda::wgmma_commit();
  if (mistake == Mistake::sums_written) d[3] = 1;
  if (mistake != Mistake::not_waited_for) cuda::wgmma_wait<0>();
}

TEST(Wgmma, MistakesAreNamed) {
  for (const auto& [mistake, error] :
       {std::pair{Mistake::none, ""},
        {Mistake::no_arrive, "there was no wgmma_arrive before the first product of a group"},
        {Mistake::not_waited_for, "a block has ended before a wgmma_wait"},
        {Mistake::sums_written, "the sums of an unfinished product were written"},
        {Mistake::not_aligned, "the factor begins 128 bytes behind a multiple of 1024"},
        {Mistake::beyond_shared_memory, "16 bytes at 16384 are not in the dynamic shared memory of 16384 bytes"},
        {Mistake::no_swizzle, "swizzle is not that of 128 bytes"},
        {Mistake::another_product, "the threads of a warpgroup begin different products"},
        {Mistake::not_transposed, "a tile is transposed and the product is not"}}) {
    const std::string found = run(multiply_wrongly, dim3(1), dim3(kWarpgroup), 2 * kPanel, mistake);
    EXPECT_NE(found.find(error), std::string::npos) << found;
    EXPECT_EQ(found.empty(), mistake == Mistake::none) << found;
  }
}

enum class CopyMistake { none, no_fence, no_map, few_bytes, many_bytes, not_aligned, not_waited_for, not_all_indices };

void copy_wrongly(const TensorMap given, CopyMistake mistake) {
  char* shared = cuda::dynamic_shared<char>();
  Mbarrier& full = *reinterpret_cast<Mbarrier*>(shared + 2 * kPanel);
  mbarrier_init(full, 2);
  if (mistake != CopyMistake::no_fence) cuda::mbarrier_init_fence();
  const TensorMap map = mistake == CopyMistake::no_map ? TensorMap{} : given;
  const int bytes = mistake == CopyMistake::few_bytes    ? kPanel
                    : mistake == CopyMistake::many_bytes ? 3 * kPanel
                                                         : 2 * kPanel;
  mbarrier_expect_bytes(full, bytes);
  if (mistake == CopyMistake::not_all_indices)
    tensor_copy_load(shared, map, 0, 0, 0, full);
  else
    tensor_copy_load(shared + (mistake == CopyMistake::not_aligned ? 128 : 0), map, 0, 0, full);
  tensor_copy_load(shared + kPanel, map, 0, 0, full);
  mbarrier_arrive(full);
  if (mistake != CopyMistake::not_waited_for) mbarrier_wait(full, 0);
}

TEST(TensorCopy, MistakesAreNamed) {
  const Operand a(left_at, kRows, false, kRows);
  for (const auto& [mistake, error] :
       {std::pair{CopyMistake::none, ""},
        {CopyMistake::no_fence, "there was no mbarrier_init_fence behind mbarrier_init"},
        {CopyMistake::no_map, "this is no tensor map"},
        {CopyMistake::few_bytes, ""},
        {CopyMistake::many_bytes, "8192 bytes are missing"},
        {CopyMistake::not_aligned, "the address is no multiple of 1024"},
        {CopyMistake::not_waited_for, "a block has ended before a tensor_copy_load that it began"},
        {CopyMistake::not_all_indices, "3 indices for a map of 2 dimensions"}}) {
    const bool may_be_early = mistake == CopyMistake::not_waited_for;
    std::string found;
    for (int attempt = 0; attempt < (may_be_early ? 20 : 1) && found.empty(); ++attempt)
      found = run(copy_wrongly, dim3(1), dim3(1), 2 * kPanel + sizeof(Mbarrier), a.map, mistake);
    EXPECT_NE(found.find(error), std::string::npos) << found;
    EXPECT_EQ(found.empty(), mistake == CopyMistake::none) << found;
  }
}

}  // namespace
}  // namespace mor::cuda_host::test
