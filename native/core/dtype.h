// The element types of tensors, and the storage type of bfloat16. C++17 that compiles for the GPU too.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mor {

enum class DType : uint8_t { float32, bfloat16, float64, complex128, int32, uint8 };

/// In the order of DType.
constexpr size_t kDTypeSizes[] = {4, 2, 8, 16, 4, 1};
constexpr const char* kDTypeNames[] = {"float32", "bfloat16", "float64", "complex128", "int32", "uint8"};

constexpr size_t dtype_size(DType dtype) {
  return kDTypeSizes[static_cast<size_t>(dtype)];
}
constexpr const char* dtype_name(DType dtype) {
  return kDTypeNames[static_cast<size_t>(dtype)];
}

/// The upper half of a float32. Storage only: arithmetic happens in float.
struct bfloat16 {
  static constexpr DType dtype = DType::bfloat16;
  uint16_t bits = 0;
  bfloat16() = default;
  /// Round to nearest even; NaN stays NaN.
  explicit bfloat16(float value) {
    uint32_t u;
    std::memcpy(&u, &value, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const {
    const uint32_t u = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &u, 4);
    return value;
  }
};

/// The dtype of a C++ type; a class says its own.
template <class T>
inline constexpr DType dtype_of = T::dtype;
template <>
inline constexpr DType dtype_of<float> = DType::float32;
template <>
inline constexpr DType dtype_of<double> = DType::float64;
template <>
inline constexpr DType dtype_of<std::complex<double>> = DType::complex128;
template <>
inline constexpr DType dtype_of<int32_t> = DType::int32;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::uint8;

}  // namespace mor
