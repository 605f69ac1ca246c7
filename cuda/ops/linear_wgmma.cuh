// The matrix product of linear and qkv in bf16 on Hopper: one warpgroup loads tiles by TMA, two others multiply them by
// wgmma. There is a block for each multiprocessor, which takes one tile of the product after another; the first steps
// of the next tile are loaded while the sums of this one are written. The two blocks of a cluster multiply neighbouring
// rows by the same columns: each loads its rows for itself and half of the columns for both.
#pragma once

#include "cuda/ops/linear_tiles.cuh"
#include "cuda/tile/cluster.cuh"
#include "cuda/tile/earlier_kernels.cuh"
#include "cuda/tile/shared.cuh"
#include "cuda/tile/tile_ring.cuh"
#include "cuda/tile/wgmma.cuh"

namespace mor::cuda {

/// What is multiplied, as far as the maps of the factors do not say it: a [rows, depth] and b [columns, depth], whose
/// depth is cut into `splits` parts of split_depth (a multiple of Shape::depth). tiles: of one part, as product_tiles
/// counts them.
template <class Pairs>
struct WgmmaProduct {
  static constexpr bool paired = !std::is_same_v<Pairs, NoPairs>;
  int64_t rows, columns, depth, split_depth, splits, tiles;
  Pairs pairs;  ///< of b's rows
};

/// The tiles of both factors for one step of the depth. Transposed ones consist of panels [depth, 64 rows].
template <class Shape>
struct alignas(1024) WgmmaStep {
  bf16 a[Shape::rows * Shape::depth], b[Shape::columns * Shape::depth];
};
template <class Shape>
using WgmmaRing = TileRing<WgmmaStep<Shape>, Shape::stages>;

/// The number of the block in its cluster.
template <class Shape>
__device__ __forceinline__ int rank_in_cluster() {
  return static_cast<int>(blockIdx.x) % Shape::cluster;
}

/// The block's tiles of the product: calls body(place, split, first_depth, steps) for one after another. The blocks of
/// a cluster have equally many tiles and steps, so a tile may lie beyond the rows; it is loaded as zeros and not
/// written.
template <class Shape, class Product, class Body>
__device__ __forceinline__ void for_each_tile(const Product& product, const Body& body) {
  constexpr unsigned kBlocks = Shape::cluster;
  for (int64_t number = blockIdx.x / kBlocks; number < product.tiles * product.splits; number += gridDim.x / kBlocks) {
    const auto split = static_cast<unsigned>(number / product.tiles);
    const int64_t begin = split * product.split_depth, end = begin + product.split_depth;
    const int64_t depth = (end < product.depth ? end : product.depth) - begin;
    TilePlace place = place_of_tile<Shape>(product.rows, product.columns, number % product.tiles);
    place.row += rank_in_cluster<Shape>() * Shape::rows;
    body(place, split, static_cast<int>(begin), static_cast<int>((depth + Shape::depth - 1) / Shape::depth));
  }
}

/// Begins to load kRows rows of a factor, 64 of the depth. load(to, map, index…): loads a box.
template <int kRows, bool transposed, class Load>
__device__ __forceinline__ void load_rows(bf16* to, const TensorMap& map, int row, int depth, const Load& load) {
  if constexpr (transposed) {
#pragma unroll
    for (int panel = 0; panel < kRows / 64; ++panel) load(to + panel * 64 * 64, map, row + 64 * panel, depth);
  } else {
    load(to, map, depth, row);
  }
}

/// The same of a paired factor: the first rows of kPairWidth pairs, then their second ones, and so on. The map's rows
/// are those of half a head, and its slices the halves of heads.
template <int kRows, class Pairs, class Load>
__device__ __forceinline__ void load_pairs(bf16* to, const TensorMap& map, const Pairs& pairs, int row, int depth,
                                           const Load& load) {
#pragma unroll 1
  for (int i = 0; i < kRows; i += 2 * kPairWidth) {
    const uint32_t pair = static_cast<uint32_t>(row + i) / 2, head = pairs.head(pair);
    load(to + i * 64, map, depth, static_cast<int>(pair - head * pairs.half), static_cast<int>(2 * head));
  }
}

/// By one thread.
template <class Shape, bool a_transposed, bool b_transposed, class Product>
__device__ __forceinline__ void load_steps(WgmmaRing<Shape>& ring, const TensorMap& a, const TensorMap& b,
                                           const Product& product) {
  constexpr int kColumns = Shape::columns / Shape::cluster;  // that this block loads
  static_assert(kColumns % 64 == 0);
  constexpr uint16_t kAllBlocks = (1 << Shape::cluster) - 1;
  const int first_column = rank_in_cluster<Shape>() * kColumns;
  RingPlace<Shape::stages> at;
  for_each_tile<Shape>(product, [&](const TilePlace& place, unsigned, int depth, int steps) {
    const int row = static_cast<int>(place.row), column = static_cast<int>(place.column) + first_column;
    for (int step = 0; step < steps; ++step, depth += Shape::depth, at.advance()) {
      WgmmaStep<Shape>& to = ring.tile[at.index];
      Mbarrier& full = ring.full[at.index];
      const auto load = [&](bf16* box, const TensorMap& map, auto... index) {
        tensor_copy_load(box, map, index..., full);
      };
      const auto load_for_all = [&](bf16* box, const TensorMap& map, auto... index) {
        if constexpr (Shape::cluster == 1)
          tensor_copy_load(box, map, index..., full);
        else
          tensor_copy_multicast(box, map, index..., full, kAllBlocks);
      };
      wait_empty<Shape::cluster>(ring, at);
      mbarrier_expect_bytes(full, sizeof to);  // from all blocks
      load_rows<Shape::rows, a_transposed>(to.a, a, row, depth, load);
      bf16* const columns = to.b + first_column * Shape::depth;
      if constexpr (Product::paired)
        load_pairs<kColumns>(columns, b, product.pairs, column, depth, load_for_all);
      else
        load_rows<kColumns, b_transposed>(columns, b, column, depth, load_for_all);
    }
  });
}

/// By a warpgroup, which multiplies rows 64 warpgroup .. of every tile.
template <class Shape, bool a_transposed, bool b_transposed, class Product, class Epilogue>
__device__ __forceinline__ void multiply_steps(WgmmaRing<Shape>& ring, const Product& product, int warpgroup,
                                               const Epilogue& epilogue) {
  constexpr int kColumns = Shape::columns, kPanel = 64 * 64;
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  RingPlace<Shape::stages> at;
  for_each_tile<Shape>(product, [&](const TilePlace& place, unsigned split, int, int steps) {
    float sums[kColumns / 2];
    if (steps <= 0) {
#pragma unroll
      for (float& sum : sums) sum = 0;
    }
    RingPlace<Shape::stages> before;
    for (int step = 0; step < steps; ++step) {
      wait_full(ring, at);
      const WgmmaTile a = wgmma_tile<a_transposed>(ring.tile[at.index].a + warpgroup * kPanel);
      const WgmmaTile b = wgmma_tile<b_transposed>(ring.tile[at.index].b, kPanel * static_cast<int>(sizeof(bf16)));
      wgmma_arrive();
#pragma unroll
      for (int k = 0; k < Shape::depth; k += 16)
        wgmma<kColumns, a_transposed, b_transposed>(sums, a.advance(k), b.advance(k), step > 0 || k > 0);
      wgmma_commit();
      wgmma_wait<1>();  // the products of the step before are finished
      if (step > 0) release<Shape::cluster>(ring, before);
      before = at;
      at.advance();
    }
    wgmma_wait<0>();
    wgmma_hold(sums);
    if (steps > 0) release<Shape::cluster>(ring, before);
    give_sums<Product::paired, kColumns / 8>([&](int n, int i) { return sums[4 * n + i]; }, epilogue, split,
                                             product.rows, product.columns,
                                             {place.row + 64 * warpgroup + 16 * warp, place.column});
  });
}

/// Computes a b^T as mma_product_kernel does (linear_mma.cuh), with the same sums over rising depth.
template <class Shape, bool a_transposed, bool b_transposed, class Product, class Epilogue>
__global__ void __launch_bounds__(Shape::threads, 1)
    wgmma_product_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                         const Product product, const Epilogue epilogue) {
#if MOR_CUDA_HOPPER
  wait_for_earlier_kernels();
  auto& ring = *dynamic_shared<WgmmaRing<Shape>>();
  static_assert(sizeof ring <= Shape::shared_bytes);
  constexpr int kMultiplying = Shape::threads - kWarpgroup;
  if (threadIdx.x == 0) {
    prefetch_tensor_map(a);
    prefetch_tensor_map(b);
    ring.init(1, Shape::cluster * kMultiplying / 32);
    mbarrier_init_fence();
  }
  if constexpr (Shape::cluster == 1)
    __syncthreads();
  else
    cluster_sync();
  divide_block<Shape>(
      [&] {
        if (threadIdx.x == kMultiplying) load_steps<Shape, a_transposed, b_transposed>(ring, a, b, product);
      },
      [&] {
        multiply_steps<Shape, a_transposed, b_transposed>(ring, product, static_cast<int>(threadIdx.x) / kWarpgroup,
                                                          epilogue);
      });
  if constexpr (Shape::cluster > 1) cluster_sync();  // the other block may still give stages back to this one
#else
  __trap();  // it is launched on compute capability 9.0 alone
#endif
}

}  // namespace mor::cuda
