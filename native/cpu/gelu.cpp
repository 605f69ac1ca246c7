// gelu on the CPU, in the exact form (erf).
#include "ops/checks/gelu.h"

#include "cpu/cpu_ops.h"
#include "cpu/lanes.h"

namespace mor::MOR_CPU_ISA {

namespace {

struct Normal {
  Vec cumulative, density;
};

/// The standard normal distribution to 1.5e-7. With u = |x| / sqrt 2: Phi(-|x|) = erfc(u) / 2 and
/// erfc(u) = exp(-u^2) q(t), t = 1 / (1 + 0.45 u); q is a least-squares fit of erfc(u) exp(u^2), weighted by exp(-u^2).
Normal normal(Vec x) {
  const Vec e = exp(x * x * -0.5f);
  const Vec t = 1.0f / (1.0f + max(x, -x) * (0.45f * 0.70710678f));
  Vec q = splat(0.0839493316f);
  q = q * t - 0.452094793f;
  q = q * t + 0.772413335f;
  q = q * t - 0.285219196f;
  q = q * t + 0.406094925f;
  q = q * t + 0.218100202f;
  q = q * t + 0.256756189f;
  const Vec tail = 0.5f * e * q * t;
  return {select(x < Vec{}, tail, 1.0f - tail), e * 0.39894228f};
}

}  // namespace

void CpuOps::gelu_forward(const Tensor& x, const Tensor& y) {
  check_gelu_forward(x, y);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(y.rows(), y.columns() / 4 + 1, [&](int64_t i) {
      const T* from = row_of<T>(x, i);
      T* to = row_of<T>(y, i);
      for_lanes(y.columns(), [&](int64_t j, auto part) {
        const Vec value = part.load(from + j);
        part.store(to + j, value * normal(value).cumulative);
      });
    });
  });
}

void CpuOps::gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) {
  check_gelu_backward(d_y, x, d_x);
  with_type(compute_, [&](auto type) {
    using T = decltype(type);
    parallel_for(d_x.rows(), d_x.columns() / 4 + 1, [&](int64_t i) {
      const T* d = row_of<T>(d_y, i);
      const T* from = row_of<T>(x, i);
      T* to = row_of<T>(d_x, i);
      for_lanes(d_x.columns(), [&](int64_t j, auto part) {
        const Vec value = part.load(from + j);
        const Normal n = normal(value);
        part.store(to + j, part.load(d + j) * (n.cumulative + value * n.density));
      });
    });
  });
}

}  // namespace mor::MOR_CPU_ISA
