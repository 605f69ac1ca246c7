// distillation on the CPU, in chunks of rows like cross_entropy: the logits of both models, their softmaxes, the
// gradient in the place of the student's logits, and from it the gradients of linear.
#include "ops/checks/distillation.h"

#include <cmath>
#include <cstring>

#include "cpu/cpu_ops.h"
#include "cpu/logit_chunk.h"
#include "ops/checks/cross_entropy.h"

namespace mor::MOR_CPU_ISA {

namespace {

/// Behind the last logit: so small that its exponential is 0, and finite, so that 0 times it is 0.
constexpr float kFiller = -1e30f;

float largest_of(const float* logits, int64_t n) {
  Vec lanes = splat(kFiller);
  for (int64_t j = 0; j < n; j += kLanes) lanes = max(lanes, logits_at(logits, j, n, kFiller));
  return largest(lanes);
}

/// One row: s the student's logits, t the teacher's, each less its largest one.
struct Row {
  float most_s, most_t;
  float sum = 0;         ///< of exp(s)
  float tempered = 0;    ///< of exp(s / T)
  float teacher = 0;     ///< of exp(t / T)
  float divergence = 0;  ///< KL

  Row(const float* logits, const float* teacher_logits, int64_t n, float cold /*1 / T*/)
      : most_s(largest_of(logits, n)), most_t(largest_of(teacher_logits, n)) {
    Vec sums = {}, tempered_sums = {}, teacher_sums = {}, differences = {}, products = {};
    for (int64_t j = 0; j < n; j += kLanes) {
      const Vec s = logits_at(logits, j, n, kFiller) - most_s;
      const Vec t = logits_at(teacher_logits, j, n, kFiller) - most_t;
      const Vec p = exp(t * cold), q = exp(s * cold);
      sums += exp(s);
      tempered_sums += q;
      teacher_sums += p;
      differences += q - p;
      products += p * (t - s);
    }
    sum = MOR_CPU_ISA::sum(sums);
    tempered = MOR_CPU_ISA::sum(tempered_sums);
    teacher = MOR_CPU_ISA::sum(teacher_sums);
    // log(tempered / teacher), which at high temperatures is far smaller than either logarithm.
    const float log_ratio = std::log1p(MOR_CPU_ISA::sum(differences) / teacher);
    divergence = MOR_CPU_ISA::sum(products) * cold / teacher + log_ratio;
  }
};

/// What is the same for all rows.
struct Factors {
  float cold;        ///< 1 / T
  float loss;        ///< loss_scale
  float divergence;  ///< divergence_scale T
};

/// gradient[j] = loss (softmax(s)_j - [j = target]) + divergence (softmax(s / T)_j - softmax(t / T)_j). The gradient
/// may overwrite the first part of the logits, since it is never written further than the logits have been read.
template <class T>
void write_gradient(const float* logits, const float* teacher_logits, int64_t n, int64_t target, const Row& row,
                    const Factors& factors, T* gradient) {
  const float of_loss = factors.loss / row.sum, of_teacher = factors.divergence / row.teacher;
  const float ratio = row.teacher / row.tempered;  // 1 if both models have the same logits: then the difference is 0
  const auto at = [&](auto s, auto t) {
    return of_loss * exp(s) + of_teacher * (ratio * exp(s * factors.cold) - exp(t * factors.cold));
  };
  const Vec of_target = at(splat(logits[target] - row.most_s), splat(teacher_logits[target] - row.most_t));
  for_lanes(n, [&](int64_t j, auto part) {
    part.store(gradient + j, at(part.load(logits + j) - row.most_s, part.load(teacher_logits + j) - row.most_t));
  });
  gradient[target] = T(largest(of_target) - factors.loss);
}

}  // namespace

void CpuOps::distillation(const Tensor& x, const Tensor& weight, const Tensor& teacher_x, const Tensor& teacher_weight,
                          const int32_t* target, const DistillationParams& params, const Tensor& losses,
                          const Tensor& divergences, const Tensor& d_x, const Tensor& d_weight) {
  check_distillation(x, weight, teacher_x, teacher_weight, params, losses, divergences, d_x, d_weight);
  check_targets(target, x.rows(), weight.rows());
  const int64_t n = weight.rows(), chunk = logit_rows(x.rows(), n);
  const auto temperature = static_cast<float>(params.temperature);
  const Factors factors{1 / temperature, static_cast<float>(params.loss_scale),
                        static_cast<float>(params.divergence_scale) * temperature};
  const ArenaScope scope(scratch_);
  const Tensor all = logit_chunk(scratch_, chunk, n, "logits"),
               all_of_teacher = logit_chunk(scratch_, chunk, n, "teacher's logits");
  for (int64_t first = 0; first < x.rows(); first += chunk) {
    const int64_t rows = std::min(chunk, x.rows() - first);
    const Tensor logits = all.slice(0, rows), teacher_logits = all_of_teacher.slice(0, rows);
    linear_forward(x.slice(first, rows), weight, {}, logits);
    linear_forward(teacher_x.slice(first, rows), teacher_weight, {}, teacher_logits);
    const Tensor gradient = logit_gradient(logits, compute_);
    with_type(compute_, [&](auto type) {
      using T = decltype(type);
      parallel_for(rows, n + 1, [&](int64_t i) {
        const float *row = row_of<float>(logits, i), *teacher_row = row_of<float>(teacher_logits, i);
        T* d_row = row_of<T>(gradient, i);
        float &loss = losses.as<float>()[first + i], &divergence = divergences.as<float>()[first + i];
        const int32_t wanted = target[first + i];
        if (wanted < 0) {
          loss = divergence = 0;
          std::memset(static_cast<void*>(d_row), 0, static_cast<size_t>(n) * sizeof(T));
          return;
        }
        const Row sums(row, teacher_row, n, factors.cold);
        loss = sums.most_s + std::log(sums.sum) - row[wanted];
        divergence = temperature * temperature * sums.divergence;
        write_gradient(row, teacher_row, n, wanted, sums, factors, d_row);
      });
    });
    linear_backward_input(gradient, weight, d_x.slice(first, rows));
    if (d_weight) linear_backward_weight(gradient, x.slice(first, rows), d_weight);
  }
}

}  // namespace mor::MOR_CPU_ISA
