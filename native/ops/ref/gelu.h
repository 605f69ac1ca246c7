// gelu: specification.
#pragma once

#include "ops/ref/ref_ops.h"
#include "ops/ref/view.h"

namespace mor::ref {

inline float erf(float x) {
  return std::erf(x);
}
inline double erf(double x) {
  return std::erf(x);
}
/// To first order in the imaginary part, which is all that the complex step's 1e-50 can show in double precision.
inline std::complex<double> erf(const std::complex<double>& x) {
  const double slope = 1.1283791670955126 * std::exp(-x.real() * x.real());  // 2 / sqrt(pi) exp(-x^2)
  return {std::erf(x.real()), slope * x.imag()};
}

/// y = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016, exact form).
template <class T>
void RefOps<T>::gelu_forward(const Tensor& x, const Tensor& y) {
  const View<T> x_(x), y_(y);
  for (int64_t i = 0; i < y.rows(); ++i)
    for (int64_t j = 0; j < y.columns(); ++j)
      y_(i, j) = x_(i, j) * T(0.5) * (T(1) + erf(x_(i, j) * T(0.7071067811865476)));
}

/// dy/dx = Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi).
template <class T>
void RefOps<T>::gelu_backward(const Tensor& d_y, const Tensor& x, const Tensor& d_x) {
  const View<T> dy(d_y), x_(x), dx(d_x);
  for (int64_t i = 0; i < d_x.rows(); ++i)
    for (int64_t j = 0; j < d_x.columns(); ++j) {
      const T value = x_(i, j);
      const T cumulative = T(0.5) * (T(1) + erf(value * T(0.7071067811865476)));
      const T density = T(0.3989422804014327) * std::exp(-value * value * T(0.5));
      dx(i, j) = dy(i, j) * (cumulative + value * density);
    }
}

}  // namespace mor::ref
