// Makes tensor maps by the driver's own function, which the runtime finds, so that nothing is linked to the driver.
#include <cuda_runtime.h>

#include <algorithm>

#include "cuda/tensor_map.h"

namespace mor::cuda {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// Null if the driver has none.
Encode find_encode() {
  constexpr unsigned kSinceCuda = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t status =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSinceCuda, cudaEnableDefault, &found);
  if (status != cudaSuccess) cudaGetLastError();
  return status == cudaSuccess && found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
}

}  // namespace

TensorMap tensor_map(Stream& stream, const bf16* data, int64_t columns,
                     std::initializer_list<TensorMapDimension> dimensions) {
  constexpr size_t kMost = 3;
  static const Encode encode = find_encode();
  stream.handle();  // makes the device current, which the driver asks for
  MOR_CHECK(encode != nullptr, DEVICE_LOST, "cuda:", stream.device(),
            " cannot copy tensors, because its driver has no cuTensorMapEncodeTiled; install driver 580 or newer");
  MOR_CHECK(dimensions.size() < kMost, INTERNAL, "a tensor map has at most ", kMost, " dimensions, not ",
            dimensions.size() + 1);
  cuuint64_t sizes[kMost] = {static_cast<cuuint64_t>(columns)}, strides[kMost - 1] = {};
  cuuint32_t boxes[kMost] = {kBoxColumns}, steps[kMost] = {1, 1, 1};
  size_t count = 1;
  for (const TensorMapDimension& d : dimensions) {
    sizes[count] = static_cast<cuuint64_t>(d.size);
    const int64_t stride = d.size > 1 ? d.stride : (columns + 7) / 8 * 8;  // of one row any stride will do
    strides[count - 1] = static_cast<cuuint64_t>(stride) * sizeof(bf16);
    boxes[count++] = static_cast<cuuint32_t>(d.box);
  }
  TensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(count), const_cast<bf16*>(data), sizes,
             strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  MOR_CHECK(status == CUDA_SUCCESS, INTERNAL, "the driver makes no tensor map of ", sizes[1], " x ", columns,
            " elements, ", strides[0], " bytes apart, in boxes of ", boxes[1], " rows: error ",
            static_cast<int>(status));
  return map;
}

}  // namespace mor::cuda
