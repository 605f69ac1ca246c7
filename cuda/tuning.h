// Tile sizes of the tuned kernels and the rules that choose among them: the one file to change after a measurement.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace mor::cuda {

/// What the choice of tiles depends on.
struct Gpu {
  int64_t multiprocessors;  ///< an H200 has 132, an A100 108
  size_t shared_bytes;      ///< of shared memory that a block may have
  bool hopper = false;      ///< whether it has the instructions of compute capability 9.0, which no other has
};

/// One block's tile of a matrix product in bf16: `rows` x `columns`, computed by warps_down x warps_across warps. The
/// inner extent is taken in steps of `depth`, of which `stages` lie in shared memory. resident: blocks that share a
/// multiprocessor, which limits the registers of a thread. rate: how much of the product a multiprocessor computes in
/// the time in which it computes 100 by wide tiles; 0: only the number of rows decides about the class.
/// prefetched_depth: how much of each weight's row is brought to the L2 cache while the kernel before still runs.
template <int rows_, int columns_, int depth_, int stages_, int warps_down_, int warps_across_, int resident_,
          int rate_, int prefetched_depth_ = 0>
struct ProductTile {
  static constexpr int rows = rows_, columns = columns_, depth = depth_, stages = stages_;
  static constexpr int warps_down = warps_down_, warps_across = warps_across_, resident = resident_, rate = rate_;
  static constexpr int prefetched_depth = prefetched_depth_;
  static constexpr int threads = 32 * warps_down * warps_across;
  static constexpr size_t shared_bytes = size_t{2} * stages * depth * (rows + columns);
};

// Shared memory stays below the 99 KiB that a block has on the smallest GPU supported here (compute capability 8.6).
// Only WideProduct needs more, 144 KiB, which compute capabilities 8.0 and 9.0 have. The rates are not measured yet:
// they follow from the bytes that a multiply-add takes from the L2 cache, 1 / rows + 1 / columns elements.
using WideProduct =
    ProductTile<128, 256, 64, 3, 2, 4, 1, 100>;  ///< bound by arithmetic: fewest bytes from the L2 cache
using LargeProduct =
    ProductTile<128, 128, 64, 3, 2, 2, 2, 75>;                  ///< likewise, where wide ones fill the GPU badly or not
using MediumProduct = ProductTile<64, 64, 64, 4, 2, 2, 3, 38>;  ///< where large ones leave much of the GPU idle
// The classes for few rows are bound by memory. What blocks that fill 132 multiprocessors prefetch, 17 or 26 MB, is
// what memory delivers in some 4 or 5 µs, about as long as a small kernel takes, and fits the L2 cache.
using NarrowProduct = ProductTile<64, 32, 64, 5, 2, 2, 3, 0, 1024>;   ///< up to 64 rows read the weights once
using DecodeProduct = ProductTile<16, 16, 128, 6, 1, 1, 4, 0, 1024>;  ///< likewise up to 16 rows: a warp has 16 columns

/// One block's tile of a product by Hopper's instructions (linear_wgmma.cuh): each of `warpgroups` warpgroups
/// multiplies 64 rows by all columns, and another one loads. `registers` and `loader_registers` of their threads share
/// out those of a multiprocessor. cluster: so many blocks, 1 or 2, compute tiles of neighbouring rows together and read
/// what these multiply, the columns, once.
template <int warpgroups_, int columns_, int stages_, int cluster_, int rate_>
struct HopperTile {
  static constexpr int rows = 64 * warpgroups_, columns = columns_, depth = 64, stages = stages_, rate = rate_;
  static constexpr int cluster = cluster_;
  static constexpr int threads = 128 * (warpgroups_ + 1);
  static constexpr int registers = warpgroups_ == 2 ? 232 : 160, loader_registers = warpgroups_ == 2 ? 40 : 32;
  static constexpr size_t kBarrierBytes = 1024;  ///< for two mbarriers a stage; the ring's size is a multiple of it
  static constexpr size_t shared_bytes = size_t{2} * stages * depth * (rows + columns) + kBarrierBytes;
};

// Not measured either: published peaks of mma.sync are 0.63 of those of wgmma. From that, the rates follow by the bytes
// from the L2 cache again: with a cluster, 1 / (2 rows) + 1 / columns elements. The narrower tile has a little less,
// since as many barriers go with half the products. By such rates tiles without a cluster would be best only for some
// products of one or three tiles of rows, which leave the second block of the last cluster idle.
using HopperWideProduct = HopperTile<2, 256, 4, 2, 240>;
using HopperProduct = HopperTile<2, 128, 6, 2, 150>;  ///< where wide ones fill the GPU badly

/// Tiles down the rows whose blocks run through all columns together (linear_tiles.cuh).
constexpr int64_t kBand = 16;

/// How many blocks a cluster of the tile has.
template <class Tile, class = void>
constexpr int kCluster = 1;
template <class Tile>
constexpr int kCluster<Tile, std::void_t<decltype(Tile::cluster)>> = Tile::cluster;

/// The tiles of a product, or, of a tile with a cluster, the groups of tiles that a cluster computes together. The last
/// of a group may lie beyond the rows.
template <class Tile>
constexpr int64_t product_tiles(int64_t rows, int64_t columns) {
  constexpr int64_t kRows = kCluster<Tile> * Tile::rows;
  return (rows + kRows - 1) / kRows * ((columns + Tile::columns - 1) / Tile::columns);
}

/// The time of a product [rows, columns] whose inner extent is cut into `splits` parts, in a unit that is the same for
/// all tiles: of waves in which every multiprocessor computes one tile.
template <class Tile>
constexpr double product_time(int64_t rows, int64_t columns, int64_t splits, const Gpu& gpu) {
  const int64_t tiles = product_tiles<Tile>(rows, columns) * splits, wave = gpu.multiprocessors / kCluster<Tile>;
  const int64_t waves = (tiles + wave - 1) / wave;
  return static_cast<double>(waves * Tile::rows * Tile::columns) / Tile::rate;
}

enum class ProductClass { decode, narrow, medium, large, wide, hopper, hopper_wide };

/// The class of tiles that takes the shortest time. It never changes a result: every element is one sum over rising
/// depth, 16 at a time (mma_16x8x16, wgmma), so a row gets the same bits in every class.
constexpr ProductClass product_class(int64_t rows, int64_t columns, const Gpu& gpu, int64_t splits = 1) {
  if (rows <= DecodeProduct::rows) return ProductClass::decode;
  if (rows <= NarrowProduct::rows) return ProductClass::narrow;
  ProductClass best = ProductClass::medium;
  double shortest = product_time<MediumProduct>(rows, columns, splits, gpu);
  const auto consider = [&](ProductClass other, size_t shared_bytes, double time) {
    if (shared_bytes > gpu.shared_bytes || time > shortest) return;
    best = other;
    shortest = time;
  };
  consider(ProductClass::large, LargeProduct::shared_bytes, product_time<LargeProduct>(rows, columns, splits, gpu));
  consider(ProductClass::wide, WideProduct::shared_bytes, product_time<WideProduct>(rows, columns, splits, gpu));
  if (!gpu.hopper) return best;
  consider(ProductClass::hopper, HopperProduct::shared_bytes, product_time<HopperProduct>(rows, columns, splits, gpu));
  consider(ProductClass::hopper_wide, HopperWideProduct::shared_bytes,
           product_time<HopperWideProduct>(rows, columns, splits, gpu));
  return best;
}

/// The number of parts into which the inner extent of a weight's gradient is cut, each summed by blocks of its own. A
/// part is at least 512 deep, so that adding up the partial sums stays cheap. How sums are cut shows in their last
/// bits, so the number does not depend on the GPU.
constexpr int64_t product_splits(int64_t tiles, int64_t depth) {
  constexpr int64_t kManyBlocks = 2 * 132;
  return std::max<int64_t>(1, std::min(kManyBlocks / std::max<int64_t>(tiles, 1), depth / 512));
}

/// One block of attention: each warp has 16 x down lanes (attention_mma.cuh), and keys come in tiles of `keys`.
template <int keys_, int down_, int warps_, int resident_>
struct AttentionTile {
  static constexpr int keys = keys_, down = down_, lanes = 16 * down_ * warps_, threads = 32 * warps_;
  static constexpr int resident = resident_;
};

/// Forward over many rows. Twice the lanes in a warp halve the traffic of shared memory for each FLOP; head dim 128
/// leaves too few registers for that.
template <int head_dim>
using LongAttention = AttentionTile<64, head_dim == 64 ? 2 : 1, 4, 2>;
/// Forward over sequences of at most 16 lanes: bound by memory, one warp in a block.
using DecodeAttention = AttentionTile<64, 1, 1, 4>;
/// Keys that one block of DecodeAttention reads. The number is fixed, so that a row's sums depend on its own keys
/// alone.
constexpr int kDecodeStretch = 256;

/// One block of attention on Hopper: `warpgroups` that multiply, with 64 rows of the scores each, and one that loads
/// tiles of `others` columns of the scores, of which `stages` lie in shared memory. registers, loader_registers: of a
/// thread; all threads together have at most 65536.
template <int others_, int warpgroups_, int stages_, int registers_, int loader_registers_>
struct WarpgroupAttention {
  static constexpr int others = others_, warpgroups = warpgroups_, stages = stages_, rows = 64 * warpgroups_;
  static constexpr int threads = 128 * (warpgroups_ + 1);
  static constexpr int registers = registers_, loader_registers = loader_registers_;
};
/// Forward over many rows on Hopper: lanes by keys. Head dim 128 needs more registers than three warpgroups have.
template <int head_dim>
using HopperForward =
    std::conditional_t<head_dim == 64, WarpgroupAttention<128, 3, 3, 160, 32>, WarpgroupAttention<128, 2, 2, 232, 40>>;
/// Backward on Hopper, d_k and d_v: keys by lanes. The sums are two tiles of keys, and at head dim 128 they take half
/// of a thread's registers, so that no more than 64 lanes have room beside them.
template <int head_dim>
using HopperKeyGradients =
    std::conditional_t<head_dim == 64, WarpgroupAttention<64, 2, 4, 232, 40>, WarpgroupAttention<64, 2, 4, 240, 24>>;
/// Backward on Hopper, d_q: lanes by keys. At head dim 128 there are registers and shared memory for 96 keys.
template <int head_dim>
using HopperQueryGradients = WarpgroupAttention<head_dim == 64 ? 128 : 96, 2, 3, 232, 40>;

/// Backward: a warp holds 16 keys (or lanes) and reads the lanes (or keys) in tiles of `keys`.
template <int head_dim>
using BackwardAttention = AttentionTile<head_dim == 64 ? 64 : 32, 1, 4, 2>;

}  // namespace mor::cuda
