// token_choice on the CPU: a few logits for each row; sums over fixed stretches of rows, added in order.
#include "ops/checks/token_choice.h"

#include <algorithm>
#include <cmath>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {

constexpr int64_t kRowsPerPartial = 256;
constexpr int64_t kNanosecondsPerLogit = 16;

float logsumexp(const float* logits, int64_t n) {
  const float most = *std::max_element(logits, logits + n);
  float sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += std::exp(logits[j] - most);
  return most + std::log(sum);
}

float sigmoid(float x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

void CpuOps::token_choice_forward(const Tensor& logits, const Tensor& bias, Activation activation, double alpha,
                                  const Tensor& probabilities, int32_t* depth, const Tensor& gate, const Tensor& load,
                                  const Tensor& p_sum, const Tensor& z_sum) {
  check_token_choice_forward(logits, bias, activation, probabilities, gate, load, p_sum, z_sum);
  const int64_t rows = logits.rows(), n = logits.columns();
  const int64_t stretches = stretches_of(rows, kRowsPerPartial), width = 2 * n + 1;
  const float *logits_data = logits.as<float>(), *b = bias.as<float>(), scale = static_cast<float>(alpha);
  float *p_data = probabilities.as<float>(), *g = gate.as<float>();
  float *load_data = load.as<float>(), *p_sum_data = p_sum.as<float>(), *z_data = z_sum.as<float>();
  const ArenaScope scope(scratch_);
  // For each stretch: n loads, n sums of p, and the sum of lse^2.
  double* partial = scratch_.array<double>(stretches * width);
  const int64_t cost = kRowsPerPartial * n * kNanosecondsPerLogit;
  parallel_stretches(rows, kRowsPerPartial, cost, [&](int64_t stretch, int64_t begin, int64_t end) {
    double* sums = partial + stretch * width;
    std::fill(sums, sums + width, 0.0);
    for (int64_t i = begin; i < end; ++i) {
      const float* l = logits_data + i * logits.row_stride;
      float* p = p_data + i * probabilities.row_stride;
      const float lse = logsumexp(l, n);
      int64_t best = 0;
      for (int64_t j = 0; j < n; ++j) {
        p[j] = scale * (activation == Activation::softmax ? std::exp(l[j] - lse) : sigmoid(l[j]));
        if (p[j] + b[j] > p[best] + b[best]) best = j;
        sums[n + j] += p[j];
      }
      depth[i] = static_cast<int32_t>(best) + 1;
      g[i] = p[best];
      sums[best] += 1;
      sums[2 * n] += double{lse} * lse;
    }
  });
  for (int64_t j = 0; j < width; ++j) {
    double total = 0;
    for (int64_t stretch = 0; stretch < stretches; ++stretch) total += partial[stretch * width + j];
    float& out = j < n ? load_data[j] : j < 2 * n ? p_sum_data[j - n] : z_data[0];
    out += static_cast<float>(total);
  }
}

void CpuOps::token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                                   const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                                   double z_scale, const Tensor& d_logits) {
  check_token_choice_backward(d_gate, logits, probabilities, activation, alpha, p_scale, d_logits);
  const int64_t n = logits.columns();
  const float *dg_data = d_gate.as<float>(), *logits_data = logits.as<float>(), *p_data = probabilities.as<float>();
  const float* p_scale_data = p_scale.as<float>();
  float* dl_data = d_logits.as<float>();
  const float inverse = static_cast<float>(1 / alpha), z = static_cast<float>(2 * z_scale);
  parallel_for(logits.rows(), n * kNanosecondsPerLogit, [&](int64_t i) {
    const float* l = logits_data + i * logits.row_stride;
    const float* p = p_data + i * probabilities.row_stride;
    float* dl = dl_data + i * d_logits.row_stride;
    const float lse = logsumexp(l, n), dg = dg_data[i];
    const auto d_p = [&](int64_t j) { return p_scale_data[j] + (j == depth[i] - 1 ? dg : 0); };
    float mean = 0;
    for (int64_t j = 0; j < n; ++j) mean += p[j] * inverse * d_p(j);
    for (int64_t j = 0; j < n; ++j) {
      const float slope =
          activation == Activation::softmax ? p[j] * (d_p(j) - mean) : p[j] * (1 - p[j] * inverse) * d_p(j);
      dl[j] = slope + z * lse * std::exp(l[j] - lse);
    }
  });
}

}  // namespace mor::MOR_CPU_ISA
