// cross_entropy on the CPU, in tiles of logits that stay in the second-level caches: one walk over the vocabulary for
// the statistics of the softmax, another, which computes the logits again, for the gradient (docs/kernels/
// cross_entropy.md says why). Must not know how matrices are multiplied.
#include "ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/cpu_ops.h"
#include "cpu/linear_cache.h"
#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kMostRows = 512;                      // of a tile; more rows, fewer walks over the weights
constexpr int64_t kLogitsPerThread = int64_t{1} << 18;  // of a tile: 1 MiB, half of a second-level cache
constexpr int64_t kLeastColumns = 64;                   // of a tile, where rows and threads are few

#if defined(__AVX512BF16__)
constexpr bool kBfloat16Products = true;
#else
constexpr bool kBfloat16Products = false;  // oneDNN multiplies bfloat16 from AVX-512 on
#endif

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// The size of even pieces of n things, each at most `most` (a multiple of `unit`) and a multiple of `unit`.
int64_t even_piece(int64_t n, int64_t most, int64_t unit) {
  const int64_t pieces = std::max<int64_t>(1, (n + most - 1) / most);
  return round_up((n + pieces - 1) / pieces, unit);
}

/// Sixteen logits from j on; those behind the last one are -infinity.
Vec logits_at(const float* logits, int64_t j, int64_t n) {
  if (j + kLanes <= n) return load(logits + j);
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, -std::numeric_limits<float>::infinity());
  std::copy(logits + j, logits + n, lanes);
  return load(lanes);
}

/// What is known of a row after some tiles: its largest logit, the sum of exp(logit - most), the target's logit.
struct Softmax {
  float most = -std::numeric_limits<float>::infinity();
  float sum = 0;
  float target = 0;

  void add(const float* logits, int64_t n) {
    const float before = most;
    Vec lanes = splat(most);
    for (int64_t j = 0; j < n; j += kLanes) lanes = max(lanes, logits_at(logits, j, n));
    most = largest(lanes);
    Vec sums = {};
    for (int64_t j = 0; j < n; j += kLanes) sums += exp(logits_at(logits, j, n) - most);
    sum = sum * std::exp(before - most) + MOR_CPU_ISA::sum(sums);
  }
  float loss() const { return most + std::log(sum) - target; }
};

/// gradient[j] = scale * (softmax_j - [j = target]); target may lie in another tile. The gradient may lie over the
/// front of the logits: it is never written past what has been read.
template <class T>
void write_gradient(const float* logits, int64_t n, int64_t target, const Softmax& softmax, float scale, T* gradient) {
  const float factor = scale / softmax.sum;
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) store(gradient + j, exp(load(logits + j) - softmax.most) * factor);
  if (j < n) store_first(gradient + j, exp(load_first(logits + j, n - j) - softmax.most) * factor, n - j);
  if (target >= 0 && target < n) gradient[target] = T(factor * std::exp(softmax.target - softmax.most) - scale);
}

/// What one call works on. Products take `work` numbers: the compute dtype, or float32 where bfloat16 has no products.
class CrossEntropy {
 public:
  CrossEntropy(CpuOps& ops, LinearCache& cache, Arena& scratch, int threads, const Tensor& x, const Tensor& weight,
               const int32_t* target)
      : ops_(ops),
        cache_(cache),
        scratch_(scratch),
        mark_(scratch.mark()),
        threads_(threads),
        x_(x),
        weight_(weight),
        target_(target),
        work_(kBfloat16Products ? ops.compute_dtype() : DType::float32),
        rows_(even_piece(x.rows(), kMostRows, kLanes)),
        columns_(std::min(weight.rows(), even_piece(weight.rows(), most_columns(), kLeastColumns))) {
    tile_ = scratch.tensor(DType::float32, rows_, round_up(columns_, kLanes) + kLanes, "logits");
    softmax_ = static_cast<Softmax*>(scratch.allocate(static_cast<size_t>(rows_) * sizeof(Softmax)));
    if (work_ != ops.compute_dtype()) {
      wide_x_ = scratch.tensor(work_, rows_, x.columns(), "x");
      wide_weight_ = scratch.tensor(work_, columns_, x.columns(), "weight");
    }
    if (ops.compute_dtype() != DType::float32) d_x_sum_ = scratch.tensor(DType::float32, rows_, x.columns(), "d_x");
  }
  ~CrossEntropy() { scratch_.release(mark_); }
  CrossEntropy(const CrossEntropy&) = delete;
  CrossEntropy& operator=(const CrossEntropy&) = delete;

  /// losses, and where d_x is not empty the gradients, of all rows.
  template <class Parallel>
  void run(const Tensor& losses, double scale, const Tensor& d_x, const Tensor& d_weight, const Parallel& parallel) {
    float* loss = losses.as<float>();
    for (int64_t first = 0; first < x_.rows(); first += rows_) {
      const int64_t rows = std::min(rows_, x_.rows() - first);
      const int32_t* target = target_ + first;
      const Tensor x = readable(x_.slice(first, rows), wide_x_);
      std::fill(softmax_, softmax_ + rows, Softmax{});
      for (int64_t column = 0; column < weight_.rows(); column += columns_) gather(x, column, target, parallel);
      for (int64_t i = 0; i < rows; ++i) loss[first + i] = target[i] < 0 ? 0 : softmax_[i].loss();
      if (!d_x) continue;
      const Tensor d_x_rows = d_x.slice(first, rows), d_x_sum = d_x_sum_ ? d_x_sum_.slice(0, rows) : d_x_rows;
      for (int64_t column = 0; column < weight_.rows(); column += columns_)
        scatter(x, column, target, static_cast<float>(scale), d_x_sum, d_weight, parallel);
      if (d_x_sum_) ops_.cast(d_x_sum, d_x_rows);
    }
  }

 private:
  int64_t most_columns() const {
    return std::max(kLeastColumns,
                    kLogitsPerThread * threads_ / std::max<int64_t>(1, rows_) / kLeastColumns * kLeastColumns);
  }

  Tensor readable(const Tensor& tensor, const Tensor& wide) {
    if (!wide) return tensor;
    const Tensor copy = wide.slice(0, tensor.rows());
    ops_.cast(tensor, copy);
    return copy;
  }
  int64_t columns_from(int64_t column) const { return std::min(columns_, weight_.rows() - column); }
  Tensor weights_from(int64_t column) { return readable(weight_.slice(column, columns_from(column)), wide_weight_); }

  Tensor logits(const Tensor& x, const Tensor& weight) {
    const Tensor logits = tile_.slice(0, x.rows()).column_range(0, weight.rows());
    multiply(x, false, weight, true, Product::Addend::none, logits);
    return logits;
  }

  /// The tile's part of the statistics.
  template <class Parallel>
  void gather(const Tensor& x, int64_t column, const int32_t* target, const Parallel& parallel) {
    const Tensor tile = logits(x, weights_from(column));
    const float* data = tile.as<float>();
    const int64_t n = tile.columns();
    parallel(tile.rows(), n / 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float* row = data + i * tile.row_stride;
        softmax_[i].add(row, n);
        if (target[i] >= column && target[i] < column + n) softmax_[i].target = row[target[i] - column];
      }
    });
  }

  /// The tile's part of the gradients. Where the tile is the whole vocabulary its logits are still there.
  template <class Parallel>
  void scatter(const Tensor& x, int64_t column, const int32_t* target, float scale, const Tensor& d_x_sum,
               const Tensor& d_weight, const Parallel& parallel) {
    const Tensor weight = weights_from(column);
    const int64_t n = weight.rows();
    const bool whole = n == weight_.rows();
    const Tensor tile = whole ? tile_.slice(0, x.rows()).column_range(0, n) : logits(x, weight);
    Tensor gradient = tile.named("logits' gradient");
    gradient.dtype = work_;
    gradient.row_stride = tile.row_stride * static_cast<int64_t>(sizeof(float) / dtype_size(work_));
    with_type(work_, [&](auto type) {
      using T = decltype(type);
      const float* from = tile.as<float>();
      T* to = gradient.as<T>();
      parallel(tile.rows(), n / 4, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          T* row = to + i * gradient.row_stride;
          if (target[i] < 0) {
            std::memset(static_cast<void*>(row), 0, static_cast<size_t>(n) * sizeof(T));
          } else {
            write_gradient(from + i * tile.row_stride, n, target[i] - column, softmax_[i], scale, row);
          }
        }
      });
    });
    multiply(gradient, false, weight, false, column == 0 ? Product::Addend::none : Product::Addend::c, d_x_sum);
    multiply(gradient, true, x, false, Product::Addend::c, d_weight.slice(column, n));
  }

  /// c = a b or c += a b, either factor transposed or not.
  void multiply(const Tensor& a, bool a_transposed, const Tensor& b, bool b_transposed, Product::Addend addend,
                const Tensor& c) {
    const Product product{.m = c.rows(),
                          .n = c.columns(),
                          .k = a_transposed ? a.rows() : a.columns(),
                          .a_row = a_transposed ? 1 : a.row_stride,
                          .a_column = a_transposed ? a.row_stride : 1,
                          .b_row = b_transposed ? 1 : b.row_stride,
                          .b_column = b_transposed ? b.row_stride : 1,
                          .c_row = c.row_stride,
                          .addend = addend,
                          .input = work_,
                          .output = DType::float32};
    cache_.multiply(product, a.data, b.data, nullptr, c.data, threads_);
  }

  CpuOps& ops_;
  LinearCache& cache_;
  Arena& scratch_;
  Arena::Mark mark_;
  int threads_;
  const Tensor& x_;
  const Tensor& weight_;
  const int32_t* target_;
  DType work_;
  int64_t rows_, columns_;  ///< of a tile
  Tensor tile_, wide_x_, wide_weight_, d_x_sum_;
  Softmax* softmax_;  ///< of each row of the tile
};

}  // namespace

void CpuOps::cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target, const Tensor& losses) {
  check_cross_entropy_forward(x, weight, losses);
  check_targets(target, x.rows(), weight.rows());
  CrossEntropy(*this, *linear_cache_, scratch_, threads_, x, weight, target)
      .run(losses, 0, {}, {}, [&](int64_t n, int64_t cost, const auto& body) { parallel(n, cost, body); });
}

void CpuOps::cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                    const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) {
  check_cross_entropy_backward(x, weight, losses, d_x, d_weight);
  check_targets(target, x.rows(), weight.rows());
  CrossEntropy(*this, *linear_cache_, scratch_, threads_, x, weight, target)
      .run(losses, scale, d_x, d_weight, [&](int64_t n, int64_t cost, const auto& body) { parallel(n, cost, body); });
}

}  // namespace mor::MOR_CPU_ISA
