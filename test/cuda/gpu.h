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
            static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)),
            attribute(cudaDevAttrComputeCapabilityMajor) == 9};
  }
  const cuda::Gpu& gpu() const { return gpu_; }
  /// The GPU as products see it whose factors TMA cannot load.
  cuda::Gpu gpu_without_tma() const { return {gpu_.multiprocessors, gpu_.shared_bytes}; }

 private:
  static int attribute(cudaDeviceAttr which) {
    int value = 0;
    EXPECT_EQ(cudaDeviceGetAttribute(&value, which, 0), cudaSuccess);
    return value;
  }
  cuda::Gpu gpu_ = {};
};

#if defined(MOR_CUDA_HOST)
/// What the GPU can be: the host run is one of Hopper, and one that has mma.sync alone.
inline constexpr int kCapabilities[] = {9, 8};
inline void set_capability(int capability) {
  cuda_host::machine().compute_capability_major = capability;
}
#else
inline constexpr int kCapabilities[] = {0};  ///< what it is
inline void set_capability(int) {}
#endif

/// A test of every GPU that there can be.
class EveryGpuTest : public GpuTest, public ::testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    set_capability(GetParam());
    GpuTest::SetUp();
  }
  void TearDown() override { set_capability(kCapabilities[0]); }
};

/// The classes of tiles that products reach on this GPU.
inline std::vector<cuda::ProductClass> product_classes(const cuda::Gpu& gpu) {
  using cuda::ProductClass;
  std::vector<ProductClass> classes = {ProductClass::decode, ProductClass::narrow, ProductClass::medium};
  if (gpu.hopper) {
    classes.insert(classes.end(), {ProductClass::hopper, ProductClass::hopper_wide});
  } else {
    classes.push_back(ProductClass::large);
    if (gpu.shared_bytes >= cuda::WideProduct::shared_bytes) classes.push_back(ProductClass::wide);
  }
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
/// multiprocessors needs larger products: 136 columns and 385 rows on the host run, 526 and 3329 on an H200.
inline int64_t columns_with_every_class(int64_t first, int64_t step, const cuda::Gpu& gpu) {
  for (int64_t columns = first; columns < first + 1000 * step; columns += step)
    if (reaches_every_class(columns, gpu)) return columns;
  MOR_FAIL(INTERNAL, "no product on ", gpu.multiprocessors, " multiprocessors with ", gpu.shared_bytes,
           " bytes of shared memory reaches every class of tiles");
}

}  // namespace mor::test
