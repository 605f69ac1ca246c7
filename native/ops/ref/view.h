// Access to tensors for the scalar reference, and the few functions that must mean the same for real and complex
// numbers.
#pragma once

#include <cmath>
#include <complex>

#include "core/tensor.h"

namespace mor::ref {

/// x(i, j): element j of row i.
template <class T>
struct View {
  T* data;
  int64_t stride;
  /// Of an empty tensor too, which has no elements to ask for.
  explicit View(const Tensor& tensor) : data(tensor ? tensor.as<T>() : nullptr), stride(tensor.row_stride) {}
  T& operator()(int64_t i, int64_t j = 0) const { return data[i * stride + j]; }
};

/// Decisions (order, maxima) look at the real part, so that the complex step perturbs values and never a branch.
inline float real(float x) {
  return x;
}
inline double real(double x) {
  return x;
}
inline double real(const std::complex<double>& x) {
  return x.real();
}

inline int64_t row(const int32_t* source, int64_t i) {
  return source == nullptr ? i : source[i];
}

template <class T>
T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

/// log(1 + exp(x)) without overflow.
template <class T>
T softplus(T x) {
  return real(x) > 0 ? x + std::log(T(1) + std::exp(-x)) : std::log(T(1) + std::exp(x));
}

}  // namespace mor::ref
