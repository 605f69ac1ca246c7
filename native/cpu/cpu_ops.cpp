// CpuOps: memory and casts. Must not hold any arithmetic of an op.
#include "cpu/cpu_ops.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cpu/linear_onednn.h"
#include "cpu/simd.h"

namespace mor::MOR_CPU_ISA {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

CpuOps::CpuOps(DType compute, int threads)
    : compute_(compute), threads_(threads), scratch_(*this), onednn_(std::make_unique<OnednnMatmul>()) {
  MOR_CHECK(compute == DType::float32 || compute == DType::bfloat16, INVALID_ARGUMENT,
            "the CPU device computes in float32 or bfloat16, not ", dtype_name(compute));
  MOR_CHECK(threads >= 1, INVALID_ARGUMENT, "threads must be at least 1, got ", threads);
}
CpuOps::~CpuOps() = default;

void* CpuOps::allocate(size_t bytes) {
  const bool large = bytes >= 4 * kHugePage;
  const size_t alignment = large ? kHugePage : 64;
  const size_t size = (std::max<size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* pointer = std::aligned_alloc(alignment, size);
  MOR_CHECK(pointer != nullptr, OUT_OF_MEMORY, "the CPU has no ", bytes, " bytes left");
#if defined(MADV_HUGEPAGE)
  if (large) ::madvise(pointer, size, MADV_HUGEPAGE);  // fewer page faults and address look-ups; a wish, not a need
#endif
  return pointer;
}
void CpuOps::release(void* pointer, size_t) noexcept {
  std::free(pointer);
}

void CpuOps::copy_to_device(void* device, const void* host, size_t bytes) {
  copy(device, host, bytes);
}
void CpuOps::copy_to_host(void* host, const void* device, size_t bytes) {
  copy(host, device, bytes);
}
void CpuOps::copy(void* to, const void* from, size_t bytes) {
  parallel(static_cast<int64_t>((bytes + 4095) / 4096), 200, [&](int64_t begin, int64_t end) {
    const size_t first = static_cast<size_t>(begin) * 4096, last = static_cast<size_t>(end) * 4096;
    std::memcpy(static_cast<char*>(to) + first, static_cast<const char*>(from) + first,
                (last < bytes ? last : bytes) - first);
  });
}
void CpuOps::zero(void* device, size_t bytes) {
  parallel(static_cast<int64_t>((bytes + 4095) / 4096), 100, [&](int64_t begin, int64_t end) {
    const size_t first = static_cast<size_t>(begin) * 4096, last = static_cast<size_t>(end) * 4096;
    std::memset(static_cast<char*>(device) + first, 0, (last < bytes ? last : bytes) - first);
  });
}

void CpuOps::cast(const Tensor& from, const Tensor& to) {
  MOR_CHECK(from.rows() == to.rows() && from.columns() == to.columns(), INVALID_ARGUMENT, "cast: ", from.name, " is ",
            from.rows(), " x ", from.columns(), ", ", to.name, " is ", to.rows(), " x ", to.columns());
  const int64_t columns = from.columns();
  with_type(from.dtype, [&](auto from_type) {
    with_type(to.dtype, [&](auto to_type) {
      const auto* source = from.as<decltype(from_type)>();
      auto* target = to.as<decltype(to_type)>();
      parallel(from.rows(), columns / 8 + 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const auto* x = source + i * from.row_stride;
          auto* y = target + i * to.row_stride;
          int64_t j = 0;
          for (; j + kLanes <= columns; j += kLanes) store(y + j, load(x + j));
          if (j < columns) store_first(y + j, load_first(x + j, columns - j), columns - j);
        }
      });
    });
  });
}

}  // namespace mor::MOR_CPU_ISA

#define MOR_CONCAT(a, b) a##b
#define MOR_MAKE(isa) MOR_CONCAT(make_cpu_ops_, isa)
namespace mor {
// The one symbol of this copy that the rest of the program sees (cpu.cmake keeps it global).
__attribute__((visibility("default"))) Ops* MOR_MAKE(MOR_CPU_ISA)(DType compute, int threads) {
  return new MOR_CPU_ISA::CpuOps(compute, threads);
}
}  // namespace mor
