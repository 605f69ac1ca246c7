// The matrix product of linear and qkv in bf16: tiles are loaded to shared memory some steps ahead and multiplied by
// mma.sync. An epilogue says what happens to the elements.
#pragma once

#include "cuda/ops/linear_tiles.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/matrix_tile.cuh"
#include "cuda/tile/shared.cuh"

namespace mor::cuda {

/// Loads kRows rows of one factor to shared memory, kDepth of the inner extent in each step.
template <int kRows, int kDepth, int kThreads, bool transposed, bool aligned, class Factor>
class TileLoader {
 public:
  using Tile = MatrixTile<transposed ? kDepth : kRows, transposed ? kRows : kDepth>;

  __device__ TileLoader(const Factor& factor, int64_t first_row, int64_t first_depth, int64_t end_depth)
      : factor_(factor),
        stride_(factor.stride),
        data_(factor.data),
        row_(transposed ? first_depth : first_row),
        column_(transposed ? first_row : first_depth),
        rows_(transposed ? end_depth : factor.rows),
        columns_(transposed ? factor.rows : end_depth) {
    row_ += static_cast<int>(threadIdx.x) / Tile::chunks;
    column_ += static_cast<int>(threadIdx.x) % Tile::chunks * 8;
  }

  /// Begins to load the tile of the current step, and moves to the next step.
  __device__ __forceinline__ void next(const Tile& to) {
    const int row = static_cast<int>(threadIdx.x) / Tile::chunks, chunk = static_cast<int>(threadIdx.x) % Tile::chunks;
    const int count = chunk_count(column_, columns_);
    const bf16* from = data_ + row_ * stride_ + column_;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if constexpr (kPaired<Factor>) {
        const int64_t lies = factor_.pairs.template column<kPairWidth>(row_ + i * kRowsAtOnce);
        const bool inside = count > 0 && lies < rows_;
        copy_chunk<aligned>(to.chunk(row + i * kRowsAtOnce, chunk), inside ? data_ + lies * stride_ + column_ : data_,
                            inside ? count : 0);
      } else {
        const bool inside = count > 0 && row_ + i * kRowsAtOnce < rows_;
        copy_chunk<aligned>(to.chunk(row + i * kRowsAtOnce, chunk), inside ? from + i * kRowsAtOnce * stride_ : data_,
                            inside ? count : 0);
      }
    }
    (transposed ? row_ : column_) += kDepth;
  }

 private:
  static constexpr int kRowsAtOnce = kThreads / Tile::chunks;
  static constexpr int kCopies = Tile::rows / kRowsAtOnce;
  static_assert(kThreads % Tile::chunks == 0 && Tile::rows % kRowsAtOnce == 0);
  const Factor& factor_;
  int64_t stride_;
  const bf16* data_;
  int64_t row_, column_;    ///< where this thread's first chunk begins
  int64_t rows_, columns_;  ///< where the factor's tensor, or this block's part of the depth, ends
};

/// A warp's part of a tile of the product, kRows x kColumns.
template <int kRows, int kColumns>
class WarpProduct {
 public:
  static constexpr int kDown = kRows / 16, kAcross = kColumns / 8;
  static_assert(kRows % 16 == 0 && kColumns % 16 == 0);

  /// Adds the product of a's rows from `row` on and b's rows from `column` on over the whole depth of the tiles, 16 at
  /// a time. The factors of the next 16 are loaded before the current ones are multiplied.
  template <bool a_transposed, bool b_transposed, int kDepth, class ATile, class BTile>
  __device__ __forceinline__ void add(const ATile& a, const BTile& b, int row, int column) {
    uint32_t left[2][kDown][4], right[2][kAcross][2];
    load<a_transposed, b_transposed>(left[0], right[0], a, b, row, column, 0);
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step) {
      if (step + 1 < kDepth / 16)
        load<a_transposed, b_transposed>(left[(step + 1) % 2], right[(step + 1) % 2], a, b, row, column,
                                         (step + 1) * 16);
#pragma unroll
      for (int m = 0; m < kDown; ++m)
#pragma unroll
        for (int n = 0; n < kAcross; ++n) mma_16x8x16(sum_[m][n], left[step % 2][m], right[step % 2][n]);
    }
  }

  /// Gives the sums to the epilogue; place: of the first one.
  template <bool paired, class Epilogue>
  __device__ __forceinline__ void give(const Epilogue& epilogue, unsigned split, int64_t rows, int64_t columns,
                                       const TilePlace& place) const {
#pragma unroll
    for (int m = 0; m < kDown; ++m)
      give_sums<paired, kAcross>([&](int n, int i) { return sum_[m][n][i]; }, epilogue, split, rows, columns,
                                 {place.row + 16 * m, place.column});
  }

 private:
  template <bool a_transposed, bool b_transposed, class ATile, class BTile>
  __device__ __forceinline__ static void load(uint32_t (&left)[kDown][4], uint32_t (&right)[kAcross][2], const ATile& a,
                                              const BTile& b, int row, int column, int depth) {
#pragma unroll
    for (int m = 0; m < kDown; ++m) load_left<a_transposed>(left[m], a, row + 16 * m, depth);
#pragma unroll
    for (int n = 0; n < kAcross; n += 2) load_right<b_transposed>(right[n], right[n + 1], b, column + 8 * n, depth);
  }
  float sum_[kDown][kAcross][4] = {};
};

/// Brings the beginning of this block's rows of a factor, Shape::prefetched_depth of the depth, to the L2 cache.
template <class Shape, class Factor>
__device__ __forceinline__ void prefetch_rows(const Factor& factor, int64_t first_row, int64_t begin, int64_t end) {
  const int64_t depth = (end - begin < Shape::prefetched_depth ? end - begin : Shape::prefetched_depth) / 8 * 8;
  if (threadIdx.x >= Shape::columns || depth == 0) return;
  int64_t row = first_row + threadIdx.x;
  if constexpr (kPaired<Factor>) row = factor.pairs.template column<kPairWidth>(row);
  if (row < factor.rows)
    prefetch_to_l2(factor.data + row * factor.stride + begin, static_cast<uint32_t>(depth * sizeof(bf16)));
}

/// Computes a b^T and gives its elements to epilogue(split, row, column, first, second) in pairs of neighbours;
/// `second` may lie beyond the last column. If b is paired, epilogue.row(row) returns an object for every row, which is
/// called with (pair, firsts, seconds) for every two neighbouring pairs; the second pair may lie beyond the
/// last. Block y computes the y-th part of the inner extent, split_depth long (a multiple of Shape::depth). Every
/// element is one sum over rising depth, 16 at a time, in one accumulator, so it depends on neither Shape nor the
/// number of rows.
template <class Shape, bool a_transposed, bool b_transposed, bool aligned, class Right, class Epilogue>
__global__ void __launch_bounds__(Shape::threads, Shape::resident)
    mma_product_kernel(const MmaFactor a, const Right b, int64_t split_depth, const Epilogue epilogue) {
  using ALoader = TileLoader<Shape::rows, Shape::depth, Shape::threads, a_transposed, aligned, MmaFactor>;
  using BLoader = TileLoader<Shape::columns, Shape::depth, Shape::threads, b_transposed, aligned, Right>;
  using ATile = typename ALoader::Tile;
  using BTile = typename BLoader::Tile;
  constexpr int kStages = Shape::stages;
  bf16* shared = dynamic_shared<bf16>();
  const auto a_tile = [&](int stage) { return ATile{shared + stage * ATile::elements}; };
  const auto b_tile = [&](int stage) { return BTile{shared + kStages * ATile::elements + stage * BTile::elements}; };

  const TilePlace place = place_of_tile<Shape>(a.rows, b.rows, blockIdx.x);
  const int64_t begin = blockIdx.y * split_depth, end = begin + split_depth < a.depth ? begin + split_depth : a.depth;
  const int steps = static_cast<int>((end - begin + Shape::depth - 1) / Shape::depth);
  ALoader a_loader(a, place.row, begin, end);
  BLoader b_loader(b, place.column, begin, end);

  if constexpr (Shape::prefetched_depth > 0 && aligned && !b_transposed)
    prefetch_rows<Shape>(b, place.column, begin, end);
  wait_for_earlier_kernels();

  const int warp = static_cast<int>(threadIdx.x / 32);
  WarpProduct<Shape::rows / Shape::warps_down, Shape::columns / Shape::warps_across> product;
  const int row = warp / Shape::warps_across * (Shape::rows / Shape::warps_down);
  const int column = warp % Shape::warps_across * (Shape::columns / Shape::warps_across);
  const bool busy = place.row + row < a.rows && place.column + column < b.rows;

#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < steps) {
      a_loader.next(a_tile(stage));
      b_loader.next(b_tile(stage));
    }
    async_copy_commit();
  }
  int stage = 0, next_stage = kStages - 1;
  for (int step = 0; step < steps; ++step) {
    async_copy_wait<kStages - 2>();
    __syncthreads();  // all threads see this stage, and none reads the one that is loaded next any more
    if (step + kStages - 1 < steps) {
      a_loader.next(a_tile(next_stage));
      b_loader.next(b_tile(next_stage));
    }
    async_copy_commit();
    if (busy) product.template add<a_transposed, b_transposed, Shape::depth>(a_tile(stage), b_tile(stage), row, column);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    next_stage = next_stage + 1 == kStages ? 0 : next_stage + 1;
  }
  product.template give<kPaired<Right>>(epilogue, blockIdx.y, a.rows, b.rows, {place.row + row, place.column + column});
}

}  // namespace mor::cuda
