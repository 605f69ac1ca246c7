// Elements of a tensor as host numbers: from the bytes of a host copy, and to and from device memory.
#pragma once

#include <algorithm>
#include <complex>
#include <type_traits>
#include <vector>

#include "ops/ops.h"

namespace mor {

/// Calls body with a value of the C++ type of a tensor of compute or master dtype. Throws INTERNAL for another dtype.
template <class Body>
void with_element(const Tensor& tensor, const Body& body) {
  switch (tensor.dtype) {
    case DType::float32:
      return body(float{});
    case DType::bfloat16:
      return body(bfloat16{});
    case DType::float64:
      return body(double{});
    case DType::complex128:
      return body(std::complex<double>{});
    default:
      MOR_FAIL(INTERNAL, tensor.name, " is ", dtype_name(tensor.dtype), ", which holds no weights");
  }
}

/// host: the bytes of a contiguous tensor of compute or master dtype; values: [tensor.count()], of complex numbers the
/// real parts.
template <class Value>
void read_host_values(const Tensor& tensor, const void* host, Value* values) {
  with_element(tensor, [&](auto element) {
    using T = decltype(element);
    const T* from = static_cast<const T*>(host);
    std::transform(from, from + tensor.count(), values, [](const T& x) {
      if constexpr (std::is_same_v<T, std::complex<double>>)
        return static_cast<Value>(x.real());
      else if constexpr (std::is_same_v<T, bfloat16>)
        return static_cast<Value>(static_cast<float>(x));
      else
        return static_cast<Value>(x);
    });
  });
}

/// Host values into a contiguous device tensor of compute or master dtype, rounded as it needs.
template <class Value>
void upload(Ops& ops, const Value* values, const Tensor& tensor) {
  with_element(tensor, [&](auto element) {
    std::vector<decltype(element)> host(static_cast<size_t>(tensor.count()));
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<decltype(element)>(values[i]);
    ops.copy_to_device(tensor.data, host.data(), host.size() * sizeof(element));
  });
}

/// The other way round.
template <class Value>
void download(Ops& ops, const Tensor& tensor, Value* values) {
  std::vector<uint8_t> host(static_cast<size_t>(tensor.count()) * dtype_size(tensor.dtype));
  ops.copy_to_host(host.data(), tensor.data, host.size());
  read_host_values(tensor, host.data(), values);
}

/// Host copies of device arrays; these wait for the device.
inline std::vector<double> read_master(Ops& ops, const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.count()));
  download(ops, tensor, values.data());
  return values;
}
inline std::vector<int32_t> read_integers(Ops& ops, const int32_t* device, int64_t n) {
  std::vector<int32_t> host(static_cast<size_t>(n));
  ops.copy_to_host(host.data(), device, host.size() * sizeof(int32_t));
  return host;
}

}  // namespace mor
