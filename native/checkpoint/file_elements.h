// The elements of tensors in files: their types, their conversion to and from float32, and the two orders of rotary
// pairs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace mor {

/// Element types of safetensors and GGUF files.
enum class FileDType : uint8_t { F32, BF16, F16 };

inline int64_t file_dtype_size(FileDType dtype) {
  return dtype == FileDType::F32 ? 4 : 2;
}

/// [n] elements as float32: exact.
void to_floats(const void* elements, FileDType dtype, int64_t n, float* floats);
/// How many of [n] elements are NaN or infinite.
int64_t count_non_finite(const void* elements, FileDType dtype, int64_t n);
/// Rounds to nearest, ties to even, and appends the bytes. Throws CHECKPOINT_INVALID where a finite value is beyond the
/// range of F16; `name` is the tensor's.
void append_rounded(const std::vector<float>& floats, FileDType dtype, const std::string& name, std::string& bytes);

/// How the rows of a q or k projection, or the elements of its bias, lie in a file. Hugging Face puts the first halves
/// of all rotary pairs of a head before the second ones; llama.cpp puts the halves of each pair side by side.
struct RowOrder {
  int64_t heads = 0;         ///< 0: the order stays
  bool interleaves = false;  ///< from Hugging Face's order to llama.cpp's; false: the other way
};
/// The bytes of a tensor of `rows` rows in the other order.
std::string reordered(const void* tensor, int64_t bytes, int64_t rows, const RowOrder& order);

}  // namespace mor
