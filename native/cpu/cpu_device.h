// What the CPU is, and how to compute on it. The instruction set is chosen when the program runs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/device_info.h"
#include "ops/ops.h"

namespace mor {

DeviceInfo cpu_info();

/// The instruction sets that kernels are written for and that this machine can run, best last, out of avx2, avx512,
/// avx512_bf16 and amx on x86-64, neon and neon_bf16 on arm64. Throws DEVICE_TOO_OLD if there is none.
std::vector<std::string> cpu_instruction_sets();

/// The set that kernels use unless the caller names one: that of the environment variable MOR_INSTRUCTION_SET,
/// otherwise the best. Throws INSTRUCTION_SET_UNAVAILABLE if the variable names one that is unknown or that this
/// machine lacks.
std::string cpu_instruction_set();

/// compute: float32 or bfloat16; threads 0: all of cpu_info().threads; instruction_set empty: cpu_instruction_set().
std::unique_ptr<Ops> make_cpu_ops(DType compute, int threads = 0, const std::string& instruction_set = "");

}  // namespace mor
