// Reads the processor's features and picks the copy of the CPU device that fits, or the one that the environment names.
#include "cpu/cpu_device.h"

#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "core/control_group.h"
#include "core/team.h"

namespace mor {

#if defined(__x86_64__)
Ops* make_cpu_ops_avx2(DType compute, int threads, bool tiles);
Ops* make_cpu_ops_avx512(DType compute, int threads, bool tiles);
Ops* make_cpu_ops_avx512_bf16(DType compute, int threads, bool tiles);
#else
Ops* make_cpu_ops_neon(DType compute, int threads, bool tiles);
Ops* make_cpu_ops_neon_bf16(DType compute, int threads, bool tiles);
#endif

namespace {

#if defined(__x86_64__)
/// Whether this processor has bf16 tiles and the operating system lets this process use them (Linux must be asked
/// once).
bool tiles_usable() {
  static const bool usable = [] {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return usable;
}
#endif

bool contains(const std::vector<std::string>& sets, const std::string& set) {
  return std::find(sets.begin(), sets.end(), set) != sets.end();
}

std::string joined(const std::vector<std::string>& sets) {
  std::string all;
  for (const std::string& set : sets) all += (all.empty() ? "" : ", ") + set;
  return all;
}

}  // namespace

DeviceInfo cpu_info() {
  DeviceInfo info;
  info.id = info.type = "cpu";
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
#else
  info.features = cpu_instruction_sets();
#endif
  info.threads = usable_threads();
  const size_t installed = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
  info.memory_bytes = std::min(installed, control_group_limits().memory_bytes);
  return info;
}

std::vector<std::string> cpu_instruction_sets() {
  std::vector<std::string> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) sets.push_back("avx2");
  if (__builtin_cpu_supports("x86-64-v4")) sets.push_back("avx512");
  if (contains(sets, "avx512") && __builtin_cpu_supports("avx512bf16")) sets.push_back("avx512_bf16");
  if (contains(sets, "avx512_bf16") && tiles_usable()) sets.push_back("amx");
#else
  sets.push_back("neon");
  if ((getauxval(AT_HWCAP2) & HWCAP2_BF16) != 0) sets.push_back("neon_bf16");
#endif
  MOR_CHECK(!sets.empty(), DEVICE_TOO_OLD, "this processor (", cpu_info().name,
            ") has no AVX2; the CPU device needs x86-64-v3 (Intel Haswell or AMD Zen, or newer)");
  return sets;
}

std::string cpu_instruction_set() {
  const std::vector<std::string> sets = cpu_instruction_sets();
  const char* forced = std::getenv("MOR_INSTRUCTION_SET");
  if (forced == nullptr || *forced == '\0') return sets.back();
  MOR_CHECK(contains(sets, forced), INSTRUCTION_SET_UNAVAILABLE, "MOR_INSTRUCTION_SET is '", forced, "'; ",
            cpu_info().name, " has ", joined(sets), ". Set it to one of these, or unset it to use ", sets.back());
  return forced;
}

std::unique_ptr<Ops> make_cpu_ops(DType compute, int threads, const std::string& instruction_set) {
  const std::string set = instruction_set.empty() ? cpu_instruction_set() : instruction_set;
  const std::vector<std::string> sets = cpu_instruction_sets();
  MOR_CHECK(contains(sets, set), INSTRUCTION_SET_UNAVAILABLE, "no CPU device for instruction set '", set,
            "'; this machine has ", joined(sets));
  if (threads == 0) threads = cpu_info().threads;
#if defined(__x86_64__)
  const auto make = set == "avx2"     ? make_cpu_ops_avx2
                    : set == "avx512" ? make_cpu_ops_avx512
                                      : make_cpu_ops_avx512_bf16;
#else
  const auto make = set == "neon" ? make_cpu_ops_neon : make_cpu_ops_neon_bf16;
#endif
  return std::unique_ptr<Ops>(make(compute, threads, set == "amx"));
}

}  // namespace mor
