// linear on the CPU: chooses the kernel of each product.
//
//              float32                           bfloat16, AMX tiles             bfloat16, no tiles
//   forward    blocked; a few rows streamed in   tiles; dot products for         blocked; dot products for
//              the same order of sums            one row or two                  few rows; on x86-64, weights
//                                                                                in place for up to 96
//   backward   blocked                           tiles                           blocked
#include "ops/checks/linear.h"

#include "core/team.h"
#include "cpu/cpu_ops.h"
#include "cpu/linear_amx.h"
#include "cpu/linear_dot.h"
#include "cpu/linear_in_place.h"
#include "cpu/linear_stream.h"
#include "cpu/product.h"

namespace mor::MOR_CPU_ISA {

namespace {

// Up to this many rows dot products are faster: they read the weights in one sequential pass, tiles read 32 rows at a
// time, and other products pack x or both operands.
constexpr int64_t kDotsBeforeTiles = 2;
#if defined(__AVX2__)
constexpr int64_t kDots = 4;
#else
constexpr int64_t kDots = 8;
#endif

#if defined(__AMX_BF16__)

/// The products of one op by AMX tiles.
class Tiles {
 public:
  Tiles(Arena& scratch, int threads) : scratch_(scratch), scope_(scratch), threads_(threads) {}

  /// With few rows the weights are read in place and x is packed. With many rows it is the other way round, so that the
  /// output is written along its rows.
  template <class Y>
  void forward(const Tensor& x, const Tensor& weight, const LinearOutput<bfloat16, Y>& output) {
    const int64_t rows = x.rows(), n = weight.rows();
    by_depth(x.columns(), rows <= kStreamedRows ? x.columns() : kDepth, rows, n, output,
             [&](int64_t begin, int64_t depth, const auto& write) {
               if (rows < kManyRows || rows < n / 4)
                 rows_by_rows<true>(weight, x, begin, depth, write);
               else
                 rows_by_rows<false>(x, weight, begin, depth, write);
             });
  }

  void backward_input(const Tensor& d_y, const Tensor& weight, const LinearOutput<bfloat16, bfloat16>& output) {
    const int64_t k = weight.columns(), stride = weight.row_stride;
    const bfloat16 *d_data = d_y.as<bfloat16>(), *w_data = weight.as<bfloat16>();
    by_depth(d_y.columns(), kDepth, d_y.rows(), k, output, [&](int64_t begin, int64_t depth, const auto& write) {
      const int64_t run_elements = steps_of(depth) * kTileElements;
      bfloat16* b = packed(k, depth);
      TileProduct product;
      product.a = TileRows::as_it_lies(d_data + begin, d_y.row_stride);
      product.m = d_y.rows();
      product.n = k;
      product.depth = depth;
      product.b = b;
      run<false>(
          product, steps_of(depth),
          [=](int64_t step) {
            const int64_t first = step * kTileDepth;
            pack_columns<false>(w_data + (begin + first) * stride, stride, std::min(kTileDepth, depth - first), k,
                                b + step * kTileElements, run_elements);
          },
          write);
    });
  }

  /// Transposes the narrower of d_y and x: transposing costs more than packing in pairs.
  void backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
    if (d_y.columns() <= x.columns())
      accumulate<false>(d_y, x, d_weight);
    else
      accumulate<true>(x, d_y, d_weight);
  }

 private:
  // kDepth: the depth is cut into such stretches, so that packed operands fit the second-level cache. With up to
  // kStreamedRows rows they fit anyway.
  static constexpr int64_t kDepth = 2048, kStreamedRows = 64, kManyRows = 256;

  bfloat16* packed(int64_t n, int64_t depth) { return scratch_.array<bfloat16>(packed_elements(n, depth)); }

  /// Calls body(begin, depth, write) for stretches of the depth no longer than `longest`. write(row, column, values, n)
  /// adds to float32 sums, and at the last stretch writes the output.
  template <class Output, class Body>
  void by_depth(int64_t depth, int64_t longest, int64_t rows, int64_t columns, const Output& output, const Body& body) {
    const int64_t stretches = std::max<int64_t>(1, (depth + longest - 1) / longest);
    const int64_t stretch = (steps_of(depth) + stretches - 1) / stretches * kTileDepth;
    float* sums = stretches == 1 ? nullptr : scratch_.array<float>(rows * columns);
    for (int64_t begin = 0; begin < depth; begin += stretch) {
      const ArenaScope scope(scratch_);
      const bool first = begin == 0, last = begin + stretch >= depth;
      body(begin, std::min(stretch, depth - begin), [&](int64_t row, int64_t column, Vec values, int64_t n) {
        with_lanes(n, [&](auto part) {
          float* sum = sums + row * columns + column;
          if (!first) values += part.load(sum);
          if (!last) part.store(sum, values);
        });
        if (last) output.put(row, column, values, n);
      });
    }
  }

  /// Gives `write` a b^T over columns [begin, begin + depth) of both, or, turned, b a^T; packs b.
  template <bool turned, class Write>
  void rows_by_rows(const Tensor& a, const Tensor& b, int64_t begin, int64_t depth, const Write& write) {
    const int64_t n = b.rows(), stride = b.row_stride, run_elements = steps_of(depth) * kTileElements;
    const bfloat16* b_data = b.as<bfloat16>() + begin;
    bfloat16* b_packed = packed(n, depth);
    TileProduct product;
    product.a = TileRows::as_it_lies(a.as<bfloat16>() + begin, a.row_stride);
    product.m = a.rows();
    product.n = n;
    product.depth = depth;
    product.b = b_packed;
    run<turned>(
        product, tiles_of(n),
        [=](int64_t tile) {
          const int64_t first = tile * kTileRows;
          pack_rows_as_pairs(b_data + first * stride, stride, std::min(kTileRows, n - first), depth,
                             b_packed + tile * run_elements);
        },
        write);
  }

  /// d_weight += a^T b, or its transpose; a, b [R, …].
  template <bool transposed>
  void accumulate(const Tensor& a, const Tensor& b, const Tensor& d_weight) {
    const int64_t m = a.columns(), n = b.columns(), rows = a.rows(), stride = d_weight.row_stride;
    const bfloat16 *a_data = a.as<bfloat16>(), *b_data = b.as<bfloat16>();
    float* sums = d_weight.as<float>();
    const auto add = [=](int64_t row, int64_t column, Vec values, int64_t count) {
      float* sum = sums + row * stride + column;
      with_lanes(count, [&](auto part) { part.store(sum, part.load(sum) + values); });
    };
    for (int64_t begin = 0; begin < rows; begin += kDepth) {
      const ArenaScope scope(scratch_);
      const int64_t depth = std::min(kDepth, rows - begin), steps = steps_of(depth);
      bfloat16 *a_packed = packed(m, depth), *b_packed = packed(n, depth);
      TileProduct product;
      product.a = TileRows::packed(a_packed, steps);
      product.a_packed = true;
      product.m = m;
      product.n = n;
      product.depth = depth;
      product.b = b_packed;
      run<transposed>(
          product, steps,
          [=, &a, &b](int64_t step) {
            const int64_t first = begin + step * kTileDepth, count = std::min(kTileDepth, rows - first);
            pack_columns<true>(a_data + first * a.row_stride, a.row_stride, count, m, a_packed + step * kTileElements,
                               steps * kTileElements);
            pack_columns<false>(b_data + first * b.row_stride, b.row_stride, count, n, b_packed + step * kTileElements,
                                steps * kTileElements);
          },
          add);
    }
  }

  /// The team calls pack(i) for every i < packs, and then computes the product.
  template <bool turned, class Pack, class Write>
  void run(TileProduct& product, int64_t packs, const Pack& pack, const Write& write) {
    constexpr int64_t kWorthATeam = 4 << 20;  // multiplications that take about 4 microseconds
    const int64_t work = product.m * product.depth * std::max(product.n, kBlock);
    const int team = work < kWorthATeam ? 1 : threads_;
    product.plan(team);
    bfloat16* staging = packed(kBlock * team, product.depth);
    Team& members = Team::of_process();
    members.run(packs, team, [&](int64_t i, int) { pack(i); });
    members.run(product.tasks(), team, [&](int64_t task, int thread) {
      const TileScope tiles;
      product.run<turned>(task, staging + packed_elements(kBlock * thread, product.depth), write);
    });
  }

  Arena& scratch_;
  ArenaScope scope_;
  int threads_;
};

#endif

template <class T>
ProductOperand<T> along_depth(const Tensor& t) {
  return {t.as<T>(), t.row_stride, true};
}
template <class T>
ProductOperand<T> across_depth(const Tensor& t) {
  return {t.as<T>(), t.row_stride, false};
}

template <class T, class Y>
LinearOutput<T, Y> output_of(const Tensor& y, const Tensor& residual) {
  return {y.as<Y>(), y.row_stride, residual ? residual.as<T>() : nullptr, residual.row_stride};
}

}  // namespace

void CpuOps::linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) {
  check_linear_forward(x, weight, residual, y);
  const int64_t rows = x.rows(), k = x.columns(), n = y.columns();
  for (const Tensor& t : {x, weight}) check_dtype("linear_forward", t, compute_);
  if (residual) check_dtype("linear_forward", residual, compute_);
  if (rows == 0) return;
#if defined(__AMX_BF16__)
  if (compute_ == DType::bfloat16 && tiles_ && rows > kDotsBeforeTiles) {
    with_type(y.dtype, [&](auto type) {
      Tiles(scratch_, threads_).forward(x, weight, output_of<bfloat16, decltype(type)>(y, residual));
    });
    return;
  }
#endif
  with_type(compute_, [&](auto compute) {
    with_type(y.dtype, [&](auto type) {
      using T = decltype(compute);
      const auto output = output_of<T, decltype(type)>(y, residual);
      // The cost of a column is the time to read its weights, at some 16 bytes a nanosecond, plus that of the
      // arithmetic.
      const auto by_columns = [&](int64_t grain, const auto& body) {
        const int64_t cost = k * grain * (4 * static_cast<int64_t>(sizeof(T)) + rows) / 64 + 1;
        parallel(parts_of(n, grain), cost,
                 [&](int64_t begin, int64_t end) { body(begin * grain, std::min(n, end * grain)); });
      };
      if constexpr (std::is_same_v<T, bfloat16>) {
        const DotOperands operands{x.as<T>(), x.row_stride, weight.as<T>(), weight.row_stride, k};
        if (rows <= kDots)
          return by_columns(kDotColumns,
                            [&](int64_t begin, int64_t end) { linear_dot(operands, rows, begin, end, output); });
#if defined(__AVX2__)
        if (rows <= kInPlaceRows) {
          const ArenaScope scope(scratch_);
          const int64_t elements = InPlaceProduct::packed_elements(rows, k);
          const InPlaceProduct product(operands, rows, scratch_.array<InPlaceProduct::Element>(elements));
          parallel(parts_of(k, kStretch), rows * kStretch / 16,
                   [&](int64_t begin, int64_t end) { product.pack(begin * kStretch, std::min(k, end * kStretch)); });
          return by_columns(kInPlaceColumns, [&](int64_t begin, int64_t end) { product.run(begin, end, output); });
        }
#endif
      } else if (rows <= kMostStreamedRows) {
        return by_columns(kStreamedColumns,
                          [&](int64_t begin, int64_t end) { linear_stream(x, weight, begin, end, output); });
      }
      BlockedProduct(scratch_, threads_)
          .run(along_depth<T>(x), along_depth<T>(weight), rows, n, k,
               [&](int64_t row, int64_t column, Vec values, int64_t count) { output.put(row, column, values, count); });
    });
  });
}

void CpuOps::linear_backward_input(const Tensor& d_y, const Tensor& weight, const Tensor& d_x) {
  check_linear_backward_input(d_y, weight, d_x);
  for (const Tensor& t : {d_y, weight, d_x}) check_dtype("linear_backward_input", t, compute_);
  if (d_x.rows() == 0) return;
#if defined(__AMX_BF16__)
  if (compute_ == DType::bfloat16 && tiles_) {
    Tiles(scratch_, threads_).backward_input(d_y, weight, output_of<bfloat16, bfloat16>(d_x, {}));
    return;
  }
#endif
  with_type(compute_, [&](auto compute) {
    using T = decltype(compute);
    const auto output = output_of<T, T>(d_x, {});
    BlockedProduct(scratch_, threads_)
        .run(along_depth<T>(d_y), across_depth<T>(weight), d_x.rows(), d_x.columns(), d_y.columns(),
             [&](int64_t row, int64_t column, Vec values, int64_t count) { output.put(row, column, values, count); });
  });
}

void CpuOps::linear_backward_weight(const Tensor& d_y, const Tensor& x, const Tensor& d_weight) {
  check_linear_backward_weight(d_y, x, d_weight);
  for (const Tensor& t : {d_y, x}) check_dtype("linear_backward_weight", t, compute_);
  check_dtype("linear_backward_weight", d_weight, DType::float32);
  if (d_y.rows() == 0) return;
#if defined(__AMX_BF16__)
  if (compute_ == DType::bfloat16 && tiles_) {
    Tiles(scratch_, threads_).backward_weight(d_y, x, d_weight);
    return;
  }
#endif
  with_type(compute_, [&](auto compute) {
    using T = decltype(compute);
    const LinearOutput<float, float> sums{d_weight.as<float>(), d_weight.row_stride, d_weight.as<float>(),
                                          d_weight.row_stride};
    BlockedProduct(scratch_, threads_)
        .run(across_depth<T>(d_y), across_depth<T>(x), d_weight.rows(), d_weight.columns(), d_y.rows(),
             [&](int64_t row, int64_t column, Vec values, int64_t count) { sums.put(row, column, values, count); });
  });
}

}  // namespace mor::MOR_CPU_ISA
