// Tiles of matrix products, by the kernels of linear (cuda/ops/linear_mma.cuh, linear_wgmma.cuh).
#include <algorithm>

#include "bench/gpu/tune/tune.h"
#include "cuda/ops/linear_launch.cuh"

namespace mor::bench {

namespace {

using cuda::MmaFactor;

/// A tile of mma_product_kernel that says what it is.
template <int rows_, int columns_, int depth_, int stages_, int warps_down_, int warps_across_, int resident_,
          int prefetched_depth_ = 0>
struct Tile
    : cuda::ProductTile<rows_, columns_, depth_, stages_, warps_down_, warps_across_, resident_, 0, prefetched_depth_> {
  static std::string name() {
    return concat(rows_, "x", columns_, "x", depth_, " stages ", stages_, " warps ", warps_down_, "x", warps_across_,
                  " resident ", resident_, prefetched_depth_ > 0 ? concat(" prefetch ", prefetched_depth_) : "");
  }
};

/// The same for wgmma_product_kernel.
template <int warpgroups_, int columns_, int stages_, int cluster_>
struct HopperTile : cuda::HopperTile<warpgroups_, columns_, stages_, cluster_, 0> {
  static std::string name() {
    return concat("wgmma ", 64 * warpgroups_, "x", columns_, "x64 stages ", stages_, " cluster ", cluster_);
  }
};
template <class Tile>
constexpr bool kHopper = false;
template <int warpgroups, int columns, int stages, int cluster>
constexpr bool kHopper<HopperTile<warpgroups, columns, stages, cluster>> = true;

template <class... Tiles>
struct TileList {};
using ManyRows =
    TileList<Tile<128, 256, 64, 3, 2, 4, 1>, Tile<256, 128, 64, 3, 4, 2, 1>, Tile<128, 128, 64, 3, 2, 2, 2>,
             Tile<128, 128, 64, 3, 2, 4, 2>, Tile<128, 128, 64, 5, 2, 4, 1>, Tile<128, 64, 64, 4, 2, 2, 2>,
             Tile<64, 128, 64, 4, 2, 2, 2>, Tile<64, 64, 64, 4, 2, 2, 3>, HopperTile<2, 256, 4, 2>,
             HopperTile<2, 256, 4, 1>, HopperTile<2, 192, 5, 1>, HopperTile<3, 192, 4, 1>, HopperTile<2, 128, 6, 2>,
             HopperTile<2, 128, 6, 1>>;
using FewRows =
    TileList<Tile<16, 16, 128, 6, 1, 1, 4>, Tile<16, 16, 128, 6, 1, 1, 4, 1024>, Tile<16, 32, 128, 6, 1, 2, 4, 1024>,
             Tile<16, 32, 128, 8, 1, 1, 4, 1024>, Tile<16, 64, 128, 4, 1, 4, 3, 1024>, Tile<64, 32, 64, 5, 2, 2, 3>,
             Tile<64, 32, 64, 5, 2, 2, 3, 1024>, Tile<64, 64, 64, 4, 2, 2, 3, 1024>>;

enum class Form { forward, backward_input, backward_weight };

/// out [splits, rows, columns]: float32 for gradients of weights, else bf16.
template <class T>
struct StoreProduct {
  T* out;
  int64_t columns, split_stride;

  __device__ void operator()(unsigned split, int64_t row, int64_t column, float first, float second) const {
    cuda::store_pair(out + split * split_stride + row * columns, column, columns, true, {first, second});
  }
};

/// A product [rows, columns] over `depth`, of which linear computes one of its three.
struct Product {
  Form form;
  int64_t rows, columns, depth;
  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(columns) * static_cast<double>(depth);
  }
  int64_t splits() const {
    return form == Form::backward_weight
               ? cuda::product_splits(cuda::product_tiles<cuda::LargeProduct>(rows, columns), depth)
               : 1;
  }
};

MmaFactor factor(const bf16* data, int64_t rows, int64_t depth, bool transposed) {
  return {data, rows, depth, transposed ? rows : depth};
}

__device__ float element(const MmaFactor& f, bool transposed, int64_t row, int64_t k) {
  return cuda::to_float(f.data[transposed ? k * f.stride + row : row * f.stride + k]);
}

constexpr int kCheckThreads = 256, kCheckBlocks = 256;

/// Counts the wrong ones among elements that are spread over the product, one for each thread.
template <class T>
__global__ void check_kernel(const MmaFactor a, bool a_transposed, const MmaFactor b, bool b_transposed, const T* out,
                             int64_t splits, unsigned* wrong) {
  const uint64_t thread = blockIdx.x * uint64_t{kCheckThreads} + threadIdx.x;
  const uint64_t place = thread * 0x9e3779b97f4a7c15u % static_cast<uint64_t>(a.rows * b.rows);
  const auto row = static_cast<int64_t>(place) / b.rows, column = static_cast<int64_t>(place) % b.rows;
  float expected = 0, found = 0;
  for (int64_t k = 0; k < a.depth; ++k)
    expected += element(a, a_transposed, row, k) * element(b, b_transposed, column, k);
  for (int64_t s = 0; s < splits; ++s) found += cuda::to_float(out[(s * a.rows + row) * b.rows + column]);
  // The operands are about 1, so the sums are about the root of the depth; bf16 rounds by 1/512 of a value.
  const float tolerance = 0.01f * fabsf(expected) + 1e-3f * sqrtf(static_cast<float>(a.depth));
  if (!(fabsf(found - expected) <= tolerance)) atomicAdd(wrong, 1);
}

/// The operands of a product: as many copies of the right one as are larger than any cache, since decoding reads each
/// weight once. The left one is made by the op before.
template <class T>
struct Operands {
  static constexpr size_t kCacheBytes = size_t{256} << 20;
  DeviceArray<bf16> left, right;
  DeviceArray<T> out;
  int copies;

  Operands(cuda::Stream& stream, const Product& p)
      : left(static_cast<size_t>(p.rows * p.depth)),
        right(static_cast<size_t>(p.columns * p.depth) * static_cast<size_t>(copies_of(p))),
        out(static_cast<size_t>(p.splits() * p.rows * p.columns)),
        copies(copies_of(p)) {
    fill_random(stream, left, 1);
    fill_random(stream, right, 2);
  }
  static int copies_of(const Product& p) {
    const size_t bytes = 2 * static_cast<size_t>(p.columns * p.depth);
    return p.rows > 64 ? 1 : static_cast<int>((kCacheBytes + bytes - 1) / bytes);
  }
  const bf16* right_copy(const Product& p, int i) const { return right.data() + i % copies * p.columns * p.depth; }
};

template <Form form, class Tile, class T>
void time_tile(const GpuOptions& options, cuda::Stream& stream, const Product& p, const Operands<T>& operands,
               TileTimes& times) {
  constexpr bool kLeft = form == Form::backward_weight, kRight = form != Form::forward;
  const cuda::Gpu gpu = cuda::gpu_of(stream);
  const auto call = [&](int i) {
    const MmaFactor left = factor(operands.left.data(), p.rows, p.depth, kLeft);
    const MmaFactor right = factor(operands.right_copy(p, i), p.columns, p.depth, kRight);
    const StoreProduct<T> store{operands.out.data(), p.columns, p.rows * p.columns};
    if constexpr (kHopper<Tile>)
      cuda::start_wgmma_product<Tile, kLeft, kRight>(stream, gpu, left, right, p.splits(), store);
    else
      cuda::start_product<Tile, kLeft, kRight, true>(stream, left, right, p.splits(), store);
  };
  if (kHopper<Tile> && !gpu.hopper) return times.refuse(Tile::name(), "needs compute capability 9.0");
  if (Tile::shared_bytes > options.gpu().sharedMemPerBlockOptin)
    return times.refuse(Tile::name(), concat("needs ", Tile::shared_bytes, " bytes of shared memory"));
  check_cuda(cudaMemsetAsync(operands.out.data(), 0xff, operands.out.count() * sizeof(T), stream.handle()),
             "cudaMemset");
  call(0);
  const DeviceArray<unsigned> wrong(std::vector<unsigned>{0});
  check_kernel<<<kCheckBlocks, kCheckThreads, 0, stream.handle()>>>(
      factor(operands.left.data(), p.rows, p.depth, kLeft), kLeft,
      factor(operands.right.data(), p.columns, p.depth, kRight), kRight, operands.out.data(), p.splits(), wrong.data());
  stream.check(cudaGetLastError(), "check_kernel");
  stream.synchronize();
  const unsigned count = wrong.values().front();
  if (count > 0)
    return times.refuse(Tile::name(), concat(count, " of ", kCheckBlocks * kCheckThreads, " elements are wrong"));
  times.add(Tile::name(), time_call(stream, options.samples, call));
}

template <Form form, class... Tiles>
void time_tiles(TileList<Tiles...>, const GpuOptions& options, cuda::Stream& stream, const Product& p,
                const std::string& name) {
  using T = std::conditional_t<form == Form::backward_weight, float, bf16>;
  const Operands<T> operands(stream, p);
  TileTimes times(p.flops());
  (time_tile<form, Tiles>(options, stream, p, operands, times), ...);
  times.print(name);
}

struct Weight {
  const char* name;
  int64_t out, in;
};

/// The projections of the presets (lib/presets.ts), whose heads are 64 wide, and their head.
constexpr Weight kWeights[] = {
    {"135M qkv", 960, 576},    {"135M o", 576, 576},     {"135M gate_up", 3072, 576}, {"135M down", 576, 1536},
    {"360M qkv", 1600, 960},   {"360M o", 960, 960},     {"360M gate_up", 5120, 960}, {"360M down", 960, 2560},
    {"360M head", 49152, 960}, {"730M qkv", 2560, 1536}, {"730M o", 1536, 1536},      {"730M gate_up", 8192, 1536},
    {"730M down", 1536, 4096}, {"1.7B qkv", 6144, 2048}, {"1.7B o", 2048, 2048},      {"1.7B gate_up", 16384, 2048},
    {"1.7B down", 2048, 8192},
};

}  // namespace

void add_products(const GpuOptions& options, cuda::Stream& stream, NamedCases& cases) {
  for (const Weight& w : kWeights) {
    const auto add = [&](const char* form, int64_t rows, const auto& time) {
      const std::string name = concat(form, " ", w.name, " ", rows, rows == 1 ? " row" : " rows");
      cases.emplace_back(name, [name, time] { time(name); });
    };
    for (const int64_t rows : {2048, 16384}) {
      add("forward", rows, [=, &options, &stream](const std::string& name) {
        time_tiles<Form::forward>(ManyRows{}, options, stream, {Form::forward, rows, w.out, w.in}, name);
      });
      add("d_x", rows, [=, &options, &stream](const std::string& name) {
        time_tiles<Form::backward_input>(ManyRows{}, options, stream, {Form::backward_input, rows, w.in, w.out}, name);
      });
      add("d_w", rows, [=, &options, &stream](const std::string& name) {
        time_tiles<Form::backward_weight>(ManyRows{}, options, stream, {Form::backward_weight, w.out, w.in, rows},
                                          name);
      });
    }
    for (const int64_t rows : {1, 16, 64})
      add("forward", rows, [=, &options, &stream](const std::string& name) {
        time_tiles<Form::forward>(FewRows{}, options, stream, {Form::forward, rows, w.out, w.in}, name);
      });
  }
}

}  // namespace mor::bench
