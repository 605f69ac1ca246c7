// Elements of tensors on their way between a device and files: a chunk at a time, cast by the device.
#pragma once

#include <cstdint>

#include "checkpoint/file_elements.h"
#include "ops/ops.h"

namespace mor {

constexpr int64_t kElementChunk = int64_t{1} << 20;  ///< elements that are read or written at a time

/// The type in which the device is given a file's elements; it has no float16.
DType device_dtype(FileDType dtype);
/// Element `begin` of a contiguous tensor.
void* element(const Tensor& tensor, int64_t begin);
/// n contiguous elements from one type to another.
void cast_elements(Ops& ops, void* from, DType from_dtype, void* to, DType to_dtype, int64_t n);

}  // namespace mor
