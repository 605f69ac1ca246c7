// What the CPU is and how to compute on it; chooses the instruction set when the program runs.
// Must not know of ops' implementations.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace mor {

struct CpuInfo {
  std::string name;                   ///< processor's own name
  std::vector<std::string> features;  ///< of those that the kernels use: avx2 avx512 avx512_bf16 amx_bf16
  int threads = 1;                    ///< processors this process may run on
  size_t memory_bytes = 0;
};
CpuInfo cpu_info();

/// Instruction sets built into this binary that this machine can run, best last. Never empty, or DEVICE_TOO_OLD.
std::vector<std::string> cpu_instruction_sets();

/// compute: float32 or bfloat16; threads 0: all of cpu_info().threads; instruction_set empty: the best.
std::unique_ptr<Ops> make_cpu_ops(DType compute, int threads = 0, const std::string& instruction_set = "");

}  // namespace mor
