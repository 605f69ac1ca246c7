// MatrixTile's chunks that a GPU reads or writes at the same time lie in different banks of shared memory.
#include "cuda/tile/matrix_tile.cuh"

#include <gtest/gtest.h>

#include <set>
#include <vector>

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

}  // namespace
}  // namespace mor::cuda_host::test
