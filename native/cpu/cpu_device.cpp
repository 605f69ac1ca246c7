// Reads the processor's features and picks the copy of the CPU device that fits.
#include "cpu/cpu_device.h"

#include <sched.h>
#include <unistd.h>

#include <fstream>

namespace mor {

#if defined(__x86_64__)
Ops* make_cpu_ops_avx2(DType compute, int threads);
Ops* make_cpu_ops_avx512(DType compute, int threads);
#else
Ops* make_cpu_ops_baseline(DType compute, int threads);
#endif

CpuInfo cpu_info() {
  CpuInfo info;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && info.name.empty();) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) info.name = line.substr(colon + 2);
  }
  if (info.name.empty()) info.name = "CPU";
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) info.features.push_back("avx2");
  if (__builtin_cpu_supports("x86-64-v4")) info.features.push_back("avx512");
  if (__builtin_cpu_supports("avx512bf16")) info.features.push_back("avx512_bf16");
  if (__builtin_cpu_supports("amx-bf16")) info.features.push_back("amx_bf16");
#endif
  cpu_set_t set;
  CPU_ZERO(&set);
  info.threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  info.memory_bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  return info;
}

std::vector<std::string> cpu_instruction_sets() {
  std::vector<std::string> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) sets.push_back("avx2");
  if (__builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512bf16")) sets.push_back("avx512");
#else
  sets.push_back("baseline");
#endif
  MOR_CHECK(!sets.empty(), DEVICE_TOO_OLD, "this processor (", cpu_info().name,
            ") has no AVX2; the CPU device needs x86-64-v3 (Intel Haswell or AMD Zen, or newer)");
  return sets;
}

std::unique_ptr<Ops> make_cpu_ops(DType compute, int threads, const std::string& instruction_set) {
  const std::vector<std::string> sets = cpu_instruction_sets();
  const std::string chosen = instruction_set.empty() ? sets.back() : instruction_set;
  if (threads == 0) threads = cpu_info().threads;
#if defined(__x86_64__)
  if (chosen == "avx2") return std::unique_ptr<Ops>(make_cpu_ops_avx2(compute, threads));
  if (chosen == "avx512" && sets.back() == "avx512") return std::unique_ptr<Ops>(make_cpu_ops_avx512(compute, threads));
#else
  if (chosen == "baseline") return std::unique_ptr<Ops>(make_cpu_ops_baseline(compute, threads));
#endif
  MOR_FAIL(DEVICE_UNAVAILABLE, "no CPU device for instruction set '", chosen, "'; this machine runs up to '",
           sets.back(), "'");
}

}  // namespace mor
