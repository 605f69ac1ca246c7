// What tests of the CUDA kernels share: the GPU that they run on, and products that reach each class of tiles there.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/check.h"
#include "cuda/tuning.h"

namespace mor::test {

/// A test that is skipped where there is no GPU. The host run has one.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) GTEST_SKIP() << "there is no GPU";
    gpu_ = {attribute(cudaDevAttrMultiProcessorCount),
            static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin))};
  }
  const cuda::Gpu& gpu() const { return gpu_; }

 private:
  static int attribute(cudaDeviceAttr which) {
    int value = 0;
    EXPECT_EQ(cudaDeviceGetAttribute(&value, which, 0), cudaSuccess);
    return value;
  }
  cuda::Gpu gpu_ = {};
};

/// The classes of tiles that the GPU has the shared memory for.
inline std::vector<cuda::ProductClass> product_classes(const cuda::Gpu& gpu) {
  std::vector<cuda::ProductClass> classes = {cuda::ProductClass::decode, cuda::ProductClass::narrow,
                                             cuda::ProductClass::medium, cuda::ProductClass::large};
  if (gpu.shared_bytes >= cuda::WideProduct::shared_bytes) classes.push_back(cuda::ProductClass::wide);
  return classes;
}

/// The fewest rows, up to 4096, of a product with so many columns that has this class; 0 if there are none.
inline int64_t rows_of(cuda::ProductClass wanted, int64_t columns, const cuda::Gpu& gpu) {
  for (int64_t rows = 1; rows <= 4096; ++rows)
    if (cuda::product_class(rows, columns, gpu) == wanted) return rows;
  return 0;
}

inline bool reaches_every_class(int64_t columns, const cuda::Gpu& gpu) {
  for (const cuda::ProductClass wanted : product_classes(gpu))
    if (rows_of(wanted, columns, gpu) == 0) return false;
  return true;
}

/// The least of first, first + step, … for which products with so many columns reach every class. A GPU with more
/// multiprocessors needs larger products: 136 columns and 257 rows on the host run, 526 and 3329 on an H200.
inline int64_t columns_with_every_class(int64_t first, int64_t step, const cuda::Gpu& gpu) {
  for (int64_t columns = first; columns < first + 1000 * step; columns += step)
    if (reaches_every_class(columns, gpu)) return columns;
  MOR_FAIL(INTERNAL, "no product on ", gpu.multiprocessors, " multiprocessors with ", gpu.shared_bytes,
           " bytes of shared memory reaches every class of tiles");
}

}  // namespace mor::test
