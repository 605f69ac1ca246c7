// Tiles of attention, by the kernels of cuda/ops/attention_{forward,backward}_mma.cuh and, on Hopper,
// attention_{forward,d_kv,d_q}_wgmma.cuh, at head dim 64.
#include <algorithm>

#include "bench/gpu/tune/tune.h"
#include "cuda/ops/attention_backward_mma.cuh"
#include "cuda/ops/attention_backward_warp.cuh"
#include "cuda/ops/attention_d_kv_wgmma.cuh"
#include "cuda/ops/attention_d_q_wgmma.cuh"
#include "cuda/ops/attention_forward_mma.cuh"
#include "cuda/ops/attention_forward_warp.cuh"
#include "cuda/ops/attention_forward_wgmma.cuh"

namespace mor::bench {

namespace {

constexpr int kHeadDim = 64;
constexpr double kTolerance = 0.03;  ///< of bf16 results, which two orders of sums round apart

/// A tile with the members that the kernels read.
template <int keys_, int down_, int warps_, int resident_>
struct Tile {
  static constexpr int keys = keys_, down = down_, lanes = 16 * down_ * warps_, threads = 32 * warps_;
  static constexpr int resident = resident_;
  static std::string name() {
    return concat("keys ", keys, " down ", down, " warps ", threads / 32, " resident ", resident);
  }
};

/// The same of the kernels for Hopper.
template <int others_, int warpgroups_, int stages_, int registers_, int loader_registers_>
struct HopperTile : cuda::WarpgroupAttention<others_, warpgroups_, stages_, registers_, loader_registers_> {
  static std::string name() {
    return concat("wgmma others ", others_, " warpgroups ", warpgroups_, " stages ", stages_);
  }
};

template <class... Tiles>
struct TileList {};
using ForwardTiles = TileList<Tile<64, 2, 4, 2>, Tile<64, 2, 4, 1>, Tile<64, 1, 4, 2>, Tile<64, 1, 4, 3>,
                              Tile<64, 1, 8, 1>, Tile<64, 2, 8, 1>>;  // the kernel reads keys by 64
using HopperForwardTiles = TileList<HopperTile<128, 3, 3, 160, 32>, HopperTile<128, 2, 3, 232, 40>,
                                    HopperTile<64, 3, 4, 160, 32>, HopperTile<192, 2, 2, 232, 40>>;
using HopperKeyTiles = TileList<HopperTile<64, 2, 4, 232, 40>, HopperTile<64, 2, 2, 232, 40>>;
using HopperQueryTiles = TileList<HopperTile<128, 2, 3, 232, 40>, HopperTile<64, 2, 4, 232, 40>>;
using BackwardTiles = TileList<Tile<64, 1, 4, 2>, Tile<32, 1, 4, 2>, Tile<64, 1, 8, 1>, Tile<128, 1, 4, 1>>;

/// Whole causal sequences of one length.
struct Shape {
  const char* name;
  int sequences, length, heads, key_heads;
  int rows() const { return sequences * length; }
  double pairs() const { return static_cast<double>(rows()) * (length + 1) / 2; }
  double forward_flops() const { return 4 * pairs() * heads * kHeadDim; }
};

/// Inputs, and the results of the kernels without tiles.
class Problem {
 public:
  Problem(cuda::Stream& stream, const Shape& s)
      : shape_(s),
        start_(starts(s)),
        position_(counting(s, 0)),
        visible_(counting(s, 1)),
        q(elements(s.heads)),
        k(elements(s.key_heads)),
        v(elements(s.key_heads)),
        d_out(elements(s.heads)),
        out(elements(s.heads)),
        lse_(static_cast<size_t>(s.rows()) * static_cast<size_t>(s.heads)),
        delta_(lse_.count()) {
    uint32_t seed = 0;
    for (const DeviceArray<bf16>* array : {&q, &k, &v, &d_out}) fill_random(stream, *array, ++seed);
    const int64_t units = int64_t{s.rows()} * s.heads;
    cuda::launch(cuda::attention_forward_warp_kernel<8, bf16>, dim3(cuda::blocks_for(units, cuda::kWarpsPerBlock)),
                 dim3(32 * cuda::kWarpsPerBlock), 0, stream, heads<const bf16>(q, s.heads),
                 heads<const bf16>(k, s.key_heads), heads<const bf16>(v, s.key_heads), rows(), scale(),
                 heads<bf16>(out, s.heads), lse());
  }

  const Shape& shape() const { return shape_; }
  size_t elements(int heads) const {
    return static_cast<size_t>(shape_.rows()) * static_cast<size_t>(heads) * size_t{kHeadDim};
  }
  static float scale() { return 0.125f; }
  Rows rows() const {
    Rows r = {};
    r.count = shape_.rows();
    r.max_rows = r.max_keys = shape_.length;
    r.key_lists = shape_.sequences;
    r.start = r.key_start = start_.data();
    r.position = position_.data();
    r.visible = visible_.data();
    return r;
  }
  template <class T>
  static cuda::Heads<T> heads(const DeviceArray<bf16>& array, int heads) {
    return {array.data(), int64_t{heads} * kHeadDim, heads, kHeadDim};
  }
  cuda::Matrix<float> lse() const { return {lse_.data(), shape_.heads}; }
  float* delta() const { return delta_.data(); }

 private:
  static std::vector<int32_t> starts(const Shape& s) {
    std::vector<int32_t> values;
    for (int i = 0; i <= s.sequences; ++i) values.push_back(i * s.length);
    return values;
  }
  static std::vector<int32_t> counting(const Shape& s, int32_t first) {
    std::vector<int32_t> values;
    for (int i = 0; i < s.rows(); ++i) values.push_back(first + i % s.length);
    return values;
  }
  const Shape shape_;
  const DeviceArray<int32_t> start_, position_, visible_;

 public:
  const DeviceArray<bf16> q, k, v, d_out, out;

 private:
  const DeviceArray<float> lse_, delta_;
};

/// Why results differ from those of the kernels without tiles; empty: they do not.
std::string difference(cuda::Stream& stream, const char* name, const DeviceArray<bf16>& found,
                       const DeviceArray<bf16>& expected) {
  const double largest = largest_difference(stream, found, expected);
  return largest <= kTolerance ? "" : concat(name, " differs by ", largest);
}

void poison(cuda::Stream& stream, const DeviceArray<bf16>& array) {
  stream.check(cudaMemsetAsync(array.data(), 0xff, array.count() * sizeof(bf16), stream.handle()), "cudaMemsetAsync");
}

/// Zeros, to which gradients of keys and values are added.
void clear(cuda::Stream& stream, const DeviceArray<bf16>& array) {
  stream.check(cudaMemsetAsync(array.data(), 0, array.count() * sizeof(bf16), stream.handle()), "cudaMemsetAsync");
}

/// The map of heads [rows, heads, kHeadDim] in boxes of so many heads of so many rows.
cuda::TensorMap map_of(cuda::Stream& stream, const DeviceArray<bf16>& array, const Shape& s, int heads, int box_heads,
                       int box_rows) {
  return cuda::tensor_map(stream, array.data(), kHeadDim,
                          {{heads, kHeadDim, box_heads}, {s.rows(), int64_t{heads} * kHeadDim, box_rows}});
}

/// One block for each multiprocessor, or for each piece of work if those are fewer.
dim3 blocks_on_hopper(const GpuOptions& options, const Shape& s, int tiles) {
  const int64_t work = int64_t{s.sequences} * s.key_heads * tiles;
  return dim3(static_cast<unsigned>(std::min<int64_t>(work, options.gpu().multiProcessorCount)));
}

bool is_hopper(const GpuOptions& options) {
  return options.gpu().major == 9;
}

cuda::AttentionForward forward_of(const Problem& p, const DeviceArray<bf16>& out) {
  const Shape& s = p.shape();
  cuda::AttentionForward in = {};
  in.q = Problem::heads<const bf16>(p.q, s.heads);
  in.k = Problem::heads<const bf16>(p.k, s.key_heads);
  in.v = Problem::heads<const bf16>(p.v, s.key_heads);
  in.out = Problem::heads<bf16>(out, s.heads);
  in.lse = p.lse();
  in.rows = p.rows();
  in.scale = Problem::scale();
  in.pairs = true;
  in.fewest_lanes = 1;
  in.most_lanes = s.length * in.group();
  in.stretches = 1;
  return in;
}

template <class Tile, class Call>
void check_and_time_forward(const GpuOptions& options, cuda::Stream& stream, const Problem& p,
                            const DeviceArray<bf16>& out, TileTimes& times, const Call& call) {
  poison(stream, out);
  call(0);
  const std::string wrong = difference(stream, "out", out, p.out);
  if (!wrong.empty()) return times.refuse(Tile::name(), wrong);
  times.add(Tile::name(), time_call(stream, options.samples, call));
}

template <class Tile>
void time_forward(const GpuOptions& options, cuda::Stream& stream, const Problem& p, const DeviceArray<bf16>& out,
                  TileTimes& times) {
  constexpr size_t kSharedBytes = size_t{2} * kHeadDim * (Tile::lanes + 4 * Tile::keys);
  const Shape& s = p.shape();
  cuda::AttentionForward in = forward_of(p, out);
  in.tiles = (in.most_lanes + Tile::lanes - 1) / Tile::lanes;
  in.stretch = (s.length / Tile::keys + 1) * Tile::keys;
  const int64_t blocks = int64_t{s.sequences} * s.key_heads * in.tiles;
  check_and_time_forward<Tile>(options, stream, p, out, times, [&](int) {
    cuda::launch(cuda::attention_forward_mma_kernel<kHeadDim, Tile, true>, dim3(cuda::blocks_for(blocks, 1)),
                 dim3(Tile::threads), kSharedBytes, stream, in);
  });
}

template <class Tile>
void time_forward_on_hopper(const GpuOptions& options, cuda::Stream& stream, const Problem& p,
                            const DeviceArray<bf16>& out, TileTimes& times) {
  const Shape& s = p.shape();
  cuda::AttentionForward in = forward_of(p, out);
  const int rows_of_tile = Tile::rows / in.group();
  in.tiles = (s.length + rows_of_tile - 1) / rows_of_tile;
  const cuda::TensorMap q = map_of(stream, p.q, s, s.heads, in.group(), rows_of_tile);
  const cuda::TensorMap k = map_of(stream, p.k, s, s.key_heads, 1, Tile::others);
  const cuda::TensorMap v = map_of(stream, p.v, s, s.key_heads, 1, Tile::others);
  check_and_time_forward<Tile>(options, stream, p, out, times, [&](int) {
    cuda::launch(cuda::attention_forward_wgmma_kernel<kHeadDim, Tile>, blocks_on_hopper(options, s, in.tiles),
                 dim3(Tile::threads), sizeof(cuda::ForwardTiles<kHeadDim, Tile>), stream, q, k, v, in);
  });
}

struct Gradients {
  DeviceArray<bf16> q, k, v;
  explicit Gradients(const Problem& p)
      : q(p.elements(p.shape().heads)), k(p.elements(p.shape().key_heads)), v(p.elements(p.shape().key_heads)) {}
};

cuda::AttentionBackward backward_of(const Problem& p, const Gradients& d) {
  const Shape& s = p.shape();
  cuda::AttentionBackward in = {};
  in.d_out = Problem::heads<const bf16>(p.d_out, s.heads);
  in.q = Problem::heads<const bf16>(p.q, s.heads);
  in.k = Problem::heads<const bf16>(p.k, s.key_heads);
  in.v = Problem::heads<const bf16>(p.v, s.key_heads);
  in.lse = {p.lse().data, p.lse().stride};
  in.delta = p.delta();
  in.d_q = Problem::heads<bf16>(d.q, s.heads);
  in.d_k = Problem::heads<bf16>(d.k, s.key_heads);
  in.d_v = Problem::heads<bf16>(d.v, s.key_heads);
  in.rows = p.rows();
  in.scale = Problem::scale();
  in.pairs = true;
  return in;
}

template <class Tile>
void time_backward(const GpuOptions& options, cuda::Stream& stream, const Problem& p, const Gradients& expected,
                   const Gradients& d, TileTimes& times) {
  constexpr size_t kSharedBytes = size_t{4} * kHeadDim * (Tile::lanes + 2 * Tile::keys);
  const Shape& s = p.shape();
  cuda::AttentionBackward in = backward_of(p, d);
  in.lane_tiles = (s.length * in.group() + Tile::lanes - 1) / Tile::lanes;
  const int64_t lists = int64_t{s.sequences} * s.key_heads, key_tiles = (s.length + Tile::lanes - 1) / Tile::lanes;
  const auto call = [&](int) {
    cuda::launch(cuda::attention_d_kv_mma_kernel<kHeadDim, Tile, true>, dim3(cuda::blocks_for(lists * key_tiles, 1)),
                 dim3(Tile::threads), kSharedBytes + 2 * Tile::keys * sizeof(cuda::LaneValues), stream, in);
    cuda::launch(cuda::attention_d_q_mma_kernel<kHeadDim, Tile, true>, dim3(cuda::blocks_for(lists * in.lane_tiles, 1)),
                 dim3(Tile::threads), kSharedBytes, stream, in);
  };
  poison(stream, d.q);
  clear(stream, d.k);
  clear(stream, d.v);
  call(0);
  const std::string wrong = difference(stream, "d_q", d.q, expected.q) + difference(stream, "d_k", d.k, expected.k) +
                            difference(stream, "d_v", d.v, expected.v);
  if (!wrong.empty()) return times.refuse(Tile::name(), wrong);
  times.add(Tile::name(), time_call(stream, options.samples, call));
}

/// What a pass of the backward on Hopper is started with, for tiles of so many lanes and keys.
template <class Tile, class Kernel>
auto pass_on_hopper(const GpuOptions& options, cuda::Stream& stream, const Problem& p,
                    const cuda::AttentionBackward& in, Kernel kernel, size_t shared_bytes, int tiles, int lanes,
                    int keys) {
  const Shape& s = p.shape();
  const int group = in.group(), rows = lanes / group;
  const cuda::TensorMap q = map_of(stream, p.q, s, s.heads, group, rows);
  const cuda::TensorMap d_out = map_of(stream, p.d_out, s, s.heads, group, rows);
  const cuda::TensorMap k = map_of(stream, p.k, s, s.key_heads, 1, keys);
  const cuda::TensorMap v = map_of(stream, p.v, s, s.key_heads, 1, keys);
  return [=, &stream](int) {
    cuda::launch(kernel, blocks_on_hopper(options, s, tiles), dim3(Tile::threads), shared_bytes, stream, q, d_out, k, v,
                 in);
  };
}

/// d_k and d_v alone.
template <class Tile>
void time_key_gradients(const GpuOptions& options, cuda::Stream& stream, const Problem& p, const Gradients& expected,
                        const Gradients& d, TileTimes& times) {
  const auto call =
      pass_on_hopper<Tile>(options, stream, p, backward_of(p, d), cuda::attention_d_kv_wgmma_kernel<kHeadDim, Tile>,
                           sizeof(cuda::KeyGradientTiles<kHeadDim, Tile>),
                           (p.shape().length + Tile::rows - 1) / Tile::rows, Tile::others, Tile::rows);
  clear(stream, d.k);
  clear(stream, d.v);
  call(0);
  const std::string name = "d_k d_v " + Tile::name();
  const std::string wrong = difference(stream, "d_k", d.k, expected.k) + difference(stream, "d_v", d.v, expected.v);
  if (!wrong.empty()) return times.refuse(name, wrong);
  times.add(name, time_call(stream, options.samples, call));
}

/// d_q alone.
template <class Tile>
void time_query_gradients(const GpuOptions& options, cuda::Stream& stream, const Problem& p, const Gradients& expected,
                          const Gradients& d, TileTimes& times) {
  const cuda::AttentionBackward in = backward_of(p, d);
  const int rows_of_tile = Tile::rows / in.group();
  const auto call =
      pass_on_hopper<Tile>(options, stream, p, in, cuda::attention_d_q_wgmma_kernel<kHeadDim, Tile>,
                           sizeof(cuda::QueryGradientTiles<kHeadDim, Tile>),
                           (p.shape().length + rows_of_tile - 1) / rows_of_tile, Tile::rows, Tile::others);
  poison(stream, d.q);
  call(0);
  const std::string name = "d_q " + Tile::name();
  const std::string wrong = difference(stream, "d_q", d.q, expected.q);
  if (!wrong.empty()) return times.refuse(name, wrong);
  times.add(name, time_call(stream, options.samples, call));
}

/// The gradients by the kernels without tiles; delta is left for those with tiles.
void backward_by_warps(cuda::Stream& stream, const Problem& p, const Gradients& d) {
  const Shape& s = p.shape();
  const cuda::Inputs<bf16> in{Problem::heads<const bf16>(p.d_out, s.heads),
                              Problem::heads<const bf16>(p.q, s.heads),
                              Problem::heads<const bf16>(p.k, s.key_heads),
                              Problem::heads<const bf16>(p.v, s.key_heads),
                              {p.lse().data, p.lse().stride},
                              p.delta(),
                              Problem::scale()};
  const int64_t units = int64_t{s.rows()} * s.heads, key_units = int64_t{s.rows()} * s.key_heads;
  const dim3 threads(32 * cuda::kWarpsPerBlock);
  clear(stream, d.k);
  clear(stream, d.v);
  cuda::launch(cuda::attention_d_q_warp_kernel<8, bf16>, dim3(cuda::blocks_for(units, cuda::kWarpsPerBlock)), threads,
               0, stream, in, Problem::heads<const bf16>(p.out, s.heads), p.rows(), Problem::heads<bf16>(d.q, s.heads));
  cuda::launch(cuda::attention_d_kv_warp_kernel<8, bf16>, dim3(cuda::blocks_for(key_units, cuda::kWarpsPerBlock)),
               threads, 0, stream, in, p.rows(), Problem::heads<bf16>(d.k, s.key_heads),
               Problem::heads<bf16>(d.v, s.key_heads));
}

template <class... Tiles, class... Hopper>
void forward(TileList<Tiles...>, TileList<Hopper...>, const GpuOptions& options, cuda::Stream& stream, const Shape& s,
             const std::string& name) {
  const Problem p(stream, s);
  const DeviceArray<bf16> out(p.elements(s.heads));
  TileTimes times(s.forward_flops());
  (time_forward<Tiles>(options, stream, p, out, times), ...);
  if (is_hopper(options)) (time_forward_on_hopper<Hopper>(options, stream, p, out, times), ...);
  times.print(name);
}

template <class... Tiles, class... Keys, class... Queries>
void backward(TileList<Tiles...>, TileList<Keys...>, TileList<Queries...>, const GpuOptions& options,
              cuda::Stream& stream, const Shape& s, const std::string& name) {
  const Problem p(stream, s);
  const Gradients expected(p), d(p);
  backward_by_warps(stream, p, expected);
  TileTimes times(2.5 * s.forward_flops());
  (time_backward<Tiles>(options, stream, p, expected, d, times), ...);
  if (is_hopper(options)) {
    (time_key_gradients<Keys>(options, stream, p, expected, d, times), ...);
    (time_query_gradients<Queries>(options, stream, p, expected, d, times), ...);
  }
  times.print(name);
}

}  // namespace

void add_attention(const GpuOptions& options, cuda::Stream& stream, NamedCases& cases) {
  for (const Shape& s : {Shape{"360M", 8, 2048, 15, 5}, {"360M", 1, 16384, 15, 5}, {"1.7B", 8, 2048, 32, 32}}) {
    const std::string shape = concat(" ", s.name, " ", s.sequences, "x", s.length);
    cases.emplace_back("attention forward" + shape, [=, &options, &stream] {
      forward(ForwardTiles{}, HopperForwardTiles{}, options, stream, s, "attention forward" + shape);
    });
    cases.emplace_back("attention backward" + shape, [=, &options, &stream] {
      backward(BackwardTiles{}, HopperKeyTiles{}, HopperQueryTiles{}, options, stream, s, "attention backward" + shape);
    });
  }
}

}  // namespace mor::bench
