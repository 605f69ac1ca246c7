// Memory of the CPU device: allocating, copying, zeroing.
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

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
void CpuOps::synchronize() {}

}  // namespace mor::MOR_CPU_ISA
