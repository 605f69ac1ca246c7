// CpuOps: how one is made and destroyed.
#include "cpu/cpu_ops.h"

namespace mor::MOR_CPU_ISA {

CpuOps::CpuOps(DType compute, int threads, bool tiles)
    : compute_(compute), threads_(threads), tiles_(tiles), scratch_(*this, Arena::EmptyBlocks::freed) {
  MOR_CHECK(compute == DType::float32 || compute == DType::bfloat16, INVALID_ARGUMENT,
            "the CPU device computes in float32 or bfloat16, not ", dtype_name(compute));
  MOR_CHECK(threads >= 1, INVALID_ARGUMENT, "threads must be at least 1, got ", threads);
}

}  // namespace mor::MOR_CPU_ISA

#define MOR_CONCAT(a, b) a##b
#define MOR_MAKE(isa) MOR_CONCAT(make_cpu_ops_, isa)
namespace mor {
// The one symbol of this copy that the rest of the program sees (cpu.cmake keeps it global).
__attribute__((visibility("default"))) Ops* MOR_MAKE(MOR_CPU_ISA)(DType compute, int threads, bool tiles) {
  return new MOR_CPU_ISA::CpuOps(compute, threads, tiles);
}
}  // namespace mor
