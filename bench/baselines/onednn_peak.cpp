// The machine's two ceilings, measured: oneDNN's fastest square bf16 product and the read bandwidth of all threads.
// It uses none of the project's own code, so that the ceilings do not depend on it.
//
//   onednn_peak matmul|bandwidth [threads]       prints one JSON object a line:
//   {"kind":"matmul","size":1024,"median":…,"min":…,"max":…,"unit":"GFLOP/s","threads":…,"onednn":"2.6.3","implementation":…}
//   {"kind":"read_bandwidth","bytes":536870912,"median":…,"min":…,"max":…,"unit":"GB/s","threads":…,"walks":…}
//
// 2·n³ floating point operations a product; inputs are random normal; GB = 10⁹ bytes. Two warm-up products, then at
// least five repeats and at least two seconds per size.
#include <immintrin.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPage =
    2u << 20;  // one huge page, so that the ceiling has no TLB misses that a good program avoids
constexpr std::size_t kBandwidthBytes = 512u << 20;
constexpr int kLeastRepeats = 5;
constexpr double kLeastSeconds = 2;

struct Free {
  void operator()(void* pointer) const { std::free(pointer); }
};
using Buffer = std::unique_ptr<void, Free>;

Buffer allocate(std::size_t bytes) {
  void* pointer = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (pointer == nullptr) throw std::runtime_error("cannot allocate " + std::to_string(bytes) + " bytes");
  madvise(pointer, (bytes + kPage - 1) / kPage * kPage, MADV_HUGEPAGE);
  return Buffer(pointer);
}

struct Summary {
  double median, min, max;
  std::size_t repeats;
};

Summary summarize(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  const double median = n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
  return {median, values.front(), values.back(), n};
}

// Rates (work per second) of `body`, repeated until `seconds` have passed.
Summary rates(double work, double seconds, const std::function<void()>& body) {
  body();
  body();
  std::vector<double> values;
  const Clock::time_point start = Clock::now();
  while (values.size() < kLeastRepeats || std::chrono::duration<double>(Clock::now() - start).count() < seconds) {
    const Clock::time_point before = Clock::now();
    body();
    values.push_back(work / std::chrono::duration<double>(Clock::now() - before).count());
  }
  return summarize(std::move(values));
}

void fill_normal_bf16(void* data, std::size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  auto* out = static_cast<std::uint16_t*>(data);
  for (std::size_t i = 0; i < count; ++i) {
    const float value = normal(generator);
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out[i] = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);  // round to nearest even
  }
}

// C [n, n] f32 or bf16 = A [n, n] bf16 · B [n, n] bf16, B in the layout that oneDNN itself prefers (packed once,
// untimed).
Summary matmul(dnnl::memory::dim n, dnnl::memory::data_type output, std::string& implementation) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto plain = memory::format_tag::ab;
  const memory::desc a_desc({n, n}, memory::data_type::bf16, plain);
  const memory::desc b_any({n, n}, memory::data_type::bf16, memory::format_tag::any);
  const memory::desc b_plain({n, n}, memory::data_type::bf16, plain);
  const memory::desc c_desc({n, n}, output, plain);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, a_desc, b_any, c_desc);
#else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a_desc, b_any, c_desc), engine);
#endif
  implementation = description.impl_info_str();
  const std::size_t elements = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  const Buffer a_data = allocate(elements * 2), b_data = allocate(elements * 2);
  const Buffer b_packed = allocate(description.weights_desc().get_size()), c_data = allocate(elements * 4);
  fill_normal_bf16(a_data.get(), elements, 1);
  fill_normal_bf16(b_data.get(), elements, 2);
  memory a(a_desc, engine, a_data.get()), b_source(b_plain, engine, b_data.get());
  memory b(description.weights_desc(), engine, b_packed.get()), c(c_desc, engine, c_data.get());
  dnnl::reorder(b_source, b).execute(stream, b_source, b);
  stream.wait();
  const dnnl::matmul product(description);
  return rates(2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) * 1e-9, kLeastSeconds,
               [&] {
                 product.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
                 stream.wait();
               });
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

void print(const char* kind, const std::string& extra, const Summary& s, const char* unit) {
  std::printf("{\"kind\":\"%s\",%s\"median\":%.3f,\"min\":%.3f,\"max\":%.3f,\"repeats\":%zu,\"unit\":\"%s\"}\n", kind,
              extra.c_str(), s.median, s.min, s.max, s.repeats, unit);
  std::fflush(stdout);
}

void measure_matmul(int threads) {
  const dnnl_version_t* version = dnnl_version();
  for (const dnnl::memory::dim size : {1024, 1536, 2048, 3072, 4096}) {
    for (const auto output : {dnnl::memory::data_type::bf16, dnnl::memory::data_type::f32}) {
      std::string implementation;
      const Summary summary = matmul(size, output, implementation);
      const char* type = output == dnnl::memory::data_type::bf16 ? "bfloat16" : "float32";
      const std::string extra = "\"size\":" + std::to_string(size) + ",\"output\":\"" + type +
                                "\",\"threads\":" + std::to_string(threads) + ",\"onednn\":\"" +
                                std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                                std::to_string(version->patch) + "\",\"implementation\":\"" + implementation + "\",";
      print("matmul", extra, summary, "GFLOP/s");
    }
  }
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
  if (what != "matmul" && what != "bandwidth")
    throw std::runtime_error("the first argument must be matmul or bandwidth, not '" + what + "'");
  omp_set_num_threads(threads);
  what == "matmul" ? measure_matmul(threads) : measure_bandwidth(threads);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "onednn_peak: %s\n", error.what());
  return 1;
}
