// Casts of flat elements, by the op that casts matrices.
#include "checkpoint/element_chunks.h"

namespace mor {

DType device_dtype(FileDType dtype) {
  return dtype == FileDType::BF16 ? DType::bfloat16 : DType::float32;
}

void* element(const Tensor& tensor, int64_t begin) {
  return static_cast<char*>(tensor.data) + begin * static_cast<int64_t>(dtype_size(tensor.dtype));
}

void cast_elements(Ops& ops, void* from, DType from_dtype, void* to, DType to_dtype, int64_t n) {
  constexpr int64_t kColumns = 1024;  // a chunk is cast as rows of so many elements, which the device's threads share
  const auto part = [&](int64_t begin, int64_t rows, int64_t columns) {
    const auto view = [&](void* data, DType dtype) {
      return make_tensor(static_cast<char*>(data) + begin * static_cast<int64_t>(dtype_size(dtype)), dtype, rows,
                         columns, "checkpoint");
    };
    if (rows > 0 && columns > 0) ops.cast(view(from, from_dtype), view(to, to_dtype));
  };
  part(0, n / kColumns, kColumns);
  part(n / kColumns * kColumns, 1, n % kColumns);
}

}  // namespace mor
