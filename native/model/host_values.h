// Elements of a tensor as numbers, from a host copy of its bytes. Must not know how the copy was made.
#pragma once

#include <algorithm>
#include <complex>

#include "core/tensor.h"

namespace mor {

/// host: the bytes of a contiguous tensor of compute or master dtype; values: [tensor.count()], of complex numbers the
/// real parts. Throws INTERNAL for another dtype.
template <class Value>
void read_host_values(const Tensor& tensor, const void* host, Value* values) {
  const auto read = [&](const auto* from, const auto& number) {
    std::transform(from, from + tensor.count(), values, [&](const auto& x) { return static_cast<Value>(number(x)); });
  };
  switch (tensor.dtype) {
    case DType::float32:
      return read(static_cast<const float*>(host), [](float x) { return x; });
    case DType::bfloat16:
      return read(static_cast<const bfloat16*>(host), [](bfloat16 x) { return static_cast<float>(x); });
    case DType::float64:
      return read(static_cast<const double*>(host), [](double x) { return x; });
    case DType::complex128:
      return read(static_cast<const std::complex<double>*>(host), [](const auto& x) { return x.real(); });
    default:
      MOR_FAIL(INTERNAL, tensor.name, " is ", dtype_name(tensor.dtype), ", which holds no weights");
  }
}

}  // namespace mor
