// Conversions between element types of files, one element at a time.
#include "checkpoint/file_elements.h"

#include <cmath>
#include <cstring>

#include "core/check.h"

namespace mor {

namespace {

constexpr float kLargestHalf = 65504;

/// IEEE binary16 to binary32: exact, subnormals included.
float half_to_float(uint16_t half) {
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  float value;
  std::memcpy(&value, &magnitude, 4);
  value *= 0x1p112f;  // from the bias of float32 to that of float16
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((half & 0x7c00u) == 0x7c00u) bits |= 0x7f800000u;  // infinities and NaN
  bits |= static_cast<uint32_t>(half & 0x8000u) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

/// The other way, rounded to nearest, ties to even.
uint16_t float_to_half(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000u : 0;
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00u;
  if (std::isinf(value)) return sign | 0x7c00u;
  if (magnitude < 0x1p-14f)  // subnormals are multiples of 2^-24; the largest one may round up to the smallest normal
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  uint32_t bits;
  std::memcpy(&bits, &magnitude, 4);
  bits += 0xfffu + ((bits >> 13) & 1u);
  return sign | static_cast<uint16_t>((bits - (uint32_t{112} << 23)) >> 13);
}

template <class T>
T element_of(const void* elements, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(elements) + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

/// Those whose exponent is all ones.
template <class Bits>
int64_t count_of_exponent(const void* elements, Bits exponent, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += (element_of<Bits>(elements, i) & exponent) == exponent;
  return count;
}

}  // namespace

void to_floats(const void* elements, FileDType dtype, int64_t n, float* floats) {
  switch (dtype) {
    case FileDType::F32:
      std::memcpy(floats, elements, static_cast<size_t>(n) * sizeof(float));
      return;
    case FileDType::BF16:
      for (int64_t i = 0; i < n; ++i) floats[i] = static_cast<float>(element_of<bfloat16>(elements, i));
      return;
    case FileDType::F16:
      for (int64_t i = 0; i < n; ++i) floats[i] = half_to_float(element_of<uint16_t>(elements, i));
      return;
  }
}

int64_t count_non_finite(const void* elements, FileDType dtype, int64_t n) {
  switch (dtype) {
    case FileDType::F32:
      return count_of_exponent<uint32_t>(elements, 0x7f800000u, n);
    case FileDType::BF16:
      return count_of_exponent<uint16_t>(elements, 0x7f80u, n);
    case FileDType::F16:
      return count_of_exponent<uint16_t>(elements, 0x7c00u, n);
  }
  return 0;
}

void append_rounded(const std::vector<float>& floats, FileDType dtype, const std::string& name, std::string& bytes) {
  const auto append = [&](auto element) { bytes.append(reinterpret_cast<const char*>(&element), sizeof(element)); };
  bytes.reserve(bytes.size() + floats.size() * static_cast<size_t>(file_dtype_size(dtype)));
  for (const float value : floats) {
    if (dtype == FileDType::F32) append(value);
    if (dtype == FileDType::BF16) append(static_cast<bfloat16>(value));
    if (dtype != FileDType::F16) continue;
    // Half a unit above the largest value the rounding goes to infinity.
    MOR_CHECK(!std::isfinite(value) || std::fabs(value) < kLargestHalf + 16, CHECKPOINT_INVALID, name, " holds ", value,
              ", and the largest value of F16 is ", kLargestHalf, ": choose BF16 or F32");
    append(float_to_half(value));
  }
}

std::string reordered(const void* tensor, int64_t bytes, int64_t rows, const RowOrder& order) {
  const int64_t head = rows / order.heads, half = head / 2, row_bytes = bytes / rows;
  std::string result(static_cast<size_t>(bytes), '\0');
  const char* from = static_cast<const char*>(tensor);
  for (int64_t row = 0; row < rows; ++row) {
    // Pair p of a head is rows 2p and 2p + 1 in llama.cpp's order, p and p + half in Hugging Face's.
    const int64_t first = row / head * head, i = row % head;
    const int64_t source = order.interleaves ? i / 2 + i % 2 * half : 2 * (i % half) + i / half;
    std::memcpy(result.data() + row * row_bytes, from + (first + source) * row_bytes, static_cast<size_t>(row_bytes));
  }
  return result;
}

}  // namespace mor
