// Elements of a tensor as host numbers: from the bytes of a host copy, and to and from device memory.
#pragma once

#include <algorithm>
#include <complex>
#include <vector>

#include "ops/ops.h"

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

/// Host values into a contiguous device tensor of compute or master dtype, rounded as it needs.
template <class Value>
void upload(Ops& ops, const Value* values, const Tensor& tensor) {
  const auto send = [&](auto element) {
    std::vector<decltype(element)> host(static_cast<size_t>(tensor.count()));
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<decltype(element)>(values[i]);
    ops.copy_to_device(tensor.data, host.data(), host.size() * sizeof(element));
  };
  switch (tensor.dtype) {
    case DType::float32:
      return send(float{});
    case DType::bfloat16:
      return send(bfloat16{});
    case DType::float64:
      return send(double{});
    case DType::complex128:
      return send(std::complex<double>{});
    default:
      MOR_FAIL(INTERNAL, tensor.name, " is ", dtype_name(tensor.dtype), ", which holds no weights");
  }
}

/// The other way round.
template <class Value>
void download(Ops& ops, const Tensor& tensor, Value* values) {
  std::vector<uint8_t> host(static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype));
  ops.copy_to_host(host.data(), tensor.data, host.size());
  read_host_values(tensor, host.data(), values);
}

}  // namespace mor
