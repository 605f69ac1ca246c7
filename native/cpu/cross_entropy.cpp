// cross_entropy on the CPU, in chunks of rows: a chunk's logits over the whole vocabulary, their softmax, their
// gradient in place, and from it the gradients of linear (docs/kernels/cross_entropy.md).
#include "ops/checks/cross_entropy.h"

#include <cmath>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/logit_chunk.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// The softmax of one row: its largest logit and the sum of exp(logit - most).
struct Softmax {
  float most, sum;

  Softmax(const float* logits, int64_t n) {
    Vec lanes = splat(-std::numeric_limits<float>::infinity());
    for (int64_t j = 0; j < n; j += kLanes) lanes = max(lanes, logits_at(logits, j, n, kNoLogit));
    most = largest(lanes);
    Vec sums = {};
    for (int64_t j = 0; j < n; j += kLanes) sums += exp(logits_at(logits, j, n, kNoLogit) - most);
    sum = MOR_CPU_ISA::sum(sums);
  }
  float loss(float target_logit) const { return most + std::log(sum) - target_logit; }
};

/// gradient[j] = scale * (softmax_j - [j = target]). The gradient may overwrite the first part of the logits, since it
/// is never written further than the logits have been read.
template <class T>
void write_gradient(const float* logits, int64_t n, int64_t target, const Softmax& softmax, float scale, T* gradient) {
  const float factor = scale / softmax.sum;
  const float at_target = factor * std::exp(logits[target] - softmax.most) - scale;
  for_lanes(
      n, [&](int64_t j, auto part) { part.store(gradient + j, exp(part.load(logits + j) - softmax.most) * factor); });
  gradient[target] = T(at_target);
}

}  // namespace

template <class Body>
void CpuOps::cross_entropy_chunks(const Tensor& x, const Tensor& weight, const Body& body) {
  const int64_t vocabulary = weight.rows(), rows = logit_rows(x.rows(), vocabulary);
  const ArenaScope scope(scratch_);
  const Tensor chunk = logit_chunk(scratch_, rows, vocabulary, "logits");
  for (int64_t first = 0; first < x.rows(); first += rows) {
    const Tensor logits = chunk.slice(0, std::min(rows, x.rows() - first));
    linear_forward(x.slice(first, logits.rows()), weight, {}, logits);
    body(first, logits);
  }
}

void CpuOps::cross_entropy_forward(const Tensor& x, const Tensor& weight, const int32_t* target, const Tensor& losses) {
  check_cross_entropy_forward(x, weight, losses);
  check_targets(target, x.rows(), weight.rows());
  const int64_t n = weight.rows();
  cross_entropy_chunks(x, weight, [&](int64_t first, const Tensor& logits) {
    parallel_for(logits.rows(), n / 8 + 1, [&](int64_t i) {
      const float* row = row_of<float>(logits, i);
      const int32_t wanted = target[first + i];
      losses.as<float>()[first + i] = wanted < 0 ? 0 : Softmax(row, n).loss(row[wanted]);
    });
  });
}

void CpuOps::cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                                    const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) {
  check_cross_entropy_backward(x, weight, losses, d_x, d_weight);
  check_targets(target, x.rows(), weight.rows());
  const int64_t n = weight.rows();
  cross_entropy_chunks(x, weight, [&](int64_t first, const Tensor& logits) {
    const Tensor gradient = logit_gradient(logits, compute_);
    with_type(compute_, [&](auto type) {
      using T = decltype(type);
      parallel_for(logits.rows(), n / 4 + 1, [&](int64_t i) {
        const float* row = row_of<float>(logits, i);
        T* d_row = row_of<T>(gradient, i);
        const int32_t wanted = target[first + i];
        if (wanted < 0) {
          losses.as<float>()[first + i] = 0;
          std::memset(static_cast<void*>(d_row), 0, static_cast<size_t>(n) * sizeof(T));
          return;
        }
        const Softmax softmax(row, n);
        losses.as<float>()[first + i] = softmax.loss(row[wanted]);
        write_gradient(row, n, wanted, softmax, static_cast<float>(scale), d_row);
      });
    });
    linear_backward_input(gradient, weight, d_x.slice(first, logits.rows()));
    if (d_weight) linear_backward_weight(gradient, x.slice(first, logits.rows()), d_weight);
  });
}

}  // namespace mor::MOR_CPU_ISA
