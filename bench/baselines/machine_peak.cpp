// Two ceilings of the machine, measured: the rate of float32 multiply-adds in registers and the read bandwidth, each of
// all threads together. It uses none of the project's own code, so that the ceilings do not depend on it.
//
//   machine_peak fma256|fma512|bandwidth [threads]       prints one JSON object a line:
//   {"kind":"fma","bits":256,"median":…,"min":…,"max":…,"unit":"GFLOP/s","threads":…}
//   {"kind":"read_bandwidth","bytes":536870912,"median":…,"min":…,"max":…,"unit":"GB/s","threads":…,"walks":…}
//
// A multiply-add counts as two operations. GB = 10⁹ bytes.
#include <immintrin.h>
#include <omp.h>

#include <cstdint>
#include <cstring>
#include <numeric>

#include "rates.h"

namespace {

constexpr std::size_t kBandwidthBytes = 512u << 20;
constexpr double kLeastSeconds = 2;

// Chains of dependent multiply-adds. Processors start up to two in a cycle and finish each after four or five, so ten
// chains keep them busy; twelve and the two constants fit the sixteen registers of AVX2.
constexpr int kChains = 12;
constexpr std::int64_t kSteps = 1 << 22;

__attribute__((target("avx2,fma"))) float chains_256() {
  const __m256 factor = _mm256_set1_ps(0.5f), term = _mm256_set1_ps(1.0f);
  __m256 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (std::int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], factor, term);
  }
  __m256 sum = sums[0];
  for (int i = 1; i < kChains; ++i) sum = _mm256_add_ps(sum, sums[i]);
  return _mm256_cvtss_f32(sum);
}

__attribute__((target("avx512f"))) float chains_512() {
  const __m512 factor = _mm512_set1_ps(0.5f), term = _mm512_set1_ps(1.0f);
  __m512 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (std::int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], factor, term);
  }
  __m512 sum = sums[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, sums[i]);
  return _mm512_cvtss_f32(sum);
}

void measure_fma(int bits, int threads) {
  __builtin_cpu_init();
  const bool there =
      bits == 512 ? __builtin_cpu_supports("avx512f") : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!there) throw std::runtime_error("this processor has no multiply-adds of " + std::to_string(bits) + " bits");
  const double operations = 2.0 * kChains * (bits / 32) * kSteps * threads;
  volatile float sink = 0;
  const Summary summary = rates(operations * 1e-9, kLeastSeconds, [&] {
    float sum = 0;
#pragma omp parallel reduction(+ : sum)
    sum += bits == 512 ? chains_512() : chains_256();
    sink = sum;
  });
  print("fma", "\"bits\":" + std::to_string(bits) + ",\"threads\":" + std::to_string(threads) + ",", summary,
        "GFLOP/s");
}

// Every thread reads its share as `walks` streams in turn, 512 bytes at a time in all, and prefetches lines `ahead`
// bytes ahead (0: only the hardware prefetcher). The xor keeps the compiler from removing the loads and costs no time
// beside them.
template <std::size_t walks, std::size_t ahead>
std::uint64_t read_all(const void* data, std::size_t bytes) {
  std::uint64_t folded = 0;
#pragma omp parallel reduction(^ : folded)
  {
    const auto threads = static_cast<std::size_t>(omp_get_num_threads());
    const auto thread = static_cast<std::size_t>(omp_get_thread_num());
    const std::size_t walk = bytes / threads / walks / 4096 * 4096;
    const char* begin = static_cast<const char*>(data) + thread * walks * walk;
    constexpr std::size_t kPiece = 512 / walks;
#if defined(__AVX512F__)
    __m512i sums[8] = {};
#else
    std::uint64_t sums[8] = {};
#endif
    for (std::size_t offset = 0; offset < walk; offset += kPiece)
      for (std::size_t i = 0; i < 8; ++i) {
        const char* line = begin + i * 64 / kPiece * walk + offset + i * 64 % kPiece;
        if (ahead > 0) __builtin_prefetch(line + ahead);
#if defined(__AVX512F__)
        sums[i] = _mm512_xor_si512(sums[i], _mm512_load_si512(line));
#else
        for (std::size_t word = 0; word < 64; word += sizeof sums[i]) {
          std::uint64_t value;
          std::memcpy(&value, line + word, sizeof value);
          sums[i] ^= value;
        }
#endif
      }
    std::uint64_t words[64];
    std::memcpy(words, sums, sizeof sums);
    for (std::size_t i = 0; i < sizeof sums / 8; ++i) folded ^= words[i];
  }
  return folded;
}

// Takes the best of several ways to read, since it depends on the processor which one that is.
void measure_bandwidth(int threads) {
  const Buffer data = allocate(kBandwidthBytes);
  std::iota(static_cast<std::uint64_t*>(data.get()), static_cast<std::uint64_t*>(data.get()) + kBandwidthBytes / 8, 1);
  volatile std::uint64_t sink = 0;
  Summary best{};
  std::string best_walk;
  const auto measure = [&](const char* walk, const auto& read) {
    const Summary summary = rates(static_cast<double>(kBandwidthBytes) * 1e-9, kLeastSeconds / 4,
                                  [&] { sink = read(data.get(), kBandwidthBytes); });
    if (summary.median > best.median) best = summary, best_walk = walk;
  };
  measure("one", read_all<1, 0>);
  measure("one, 4 KiB ahead", read_all<1, 4096>);
  measure("one, 8 KiB ahead", read_all<1, 8192>);
  measure("four", read_all<4, 0>);
  print("read_bandwidth",
        "\"bytes\":" + std::to_string(kBandwidthBytes) + ",\"threads\":" + std::to_string(threads) + ",\"walks\":\"" +
            best_walk + "\",",
        best, "GB/s");
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string what = argc > 1 ? argv[1] : "";
  const int threads = argc > 2 ? std::atoi(argv[2]) : omp_get_num_procs();
  omp_set_num_threads(threads);
  if (what == "fma256" || what == "fma512")
    measure_fma(what == "fma512" ? 512 : 256, threads);
  else if (what == "bandwidth")
    measure_bandwidth(threads);
  else
    throw std::runtime_error("the first argument must be fma256, fma512 or bandwidth, not '" + what + "'");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "machine_peak: %s\n", error.what());
  return 1;
}
