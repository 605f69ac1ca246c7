// oneDNN's matrix products, in the precisions that it has on this processor. It uses none of the project's own code.
//
//   onednn_products peak [threads]
//       the fastest square products, in bfloat16 where oneDNN multiplies it and faster than float32, else in float32:
//       {"kind":"matmul","size":1024,"precision":…,"output":…,"median":…,"min":…,"max":…,"unit":"GFLOP/s",…}
//   onednn_products bfloat16|float32 threads M,N,K,TA,TB,ACC…
//       one sample of each of these products on plain row-major operands; TA, TB: 1 if the operand is stored
//       transposed; ACC: 1 if the product is added to a float32 output, else the output has the precision of the
//       operands:
//       {"kind":"product","precision":…,"m":…,"n":…,"k":…,"seconds":…}
//
// Every line also has "threads", "onednn" (its version) and "implementation" (what oneDNN calls its kernel). A product
// of m, n and k counts as 2·m·n·k operations; inputs are random and normal.
#include <omp.h>

#include <cstdint>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>

#include "rates.h"

namespace {

using dnnl::memory;
using Type = memory::data_type;
using Tag = memory::format_tag;

constexpr double kPeakSeconds = 2, kTrialSeconds = 0.2, kSampleSeconds = 0.01;

/// C [m, n] = A [m, k] · B [k, n], or C += where it accumulates.
struct Product {
  memory::dim m, n, k;
  bool a_transposed, b_transposed, accumulate;
  double operations() const { return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k); }
};

const char* name(Type type) {
  return type == Type::bf16 ? "bfloat16" : "float32";
}

void fill_normal(void* data, std::size_t count, Type type, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (std::size_t i = 0; i < count; ++i) {
    const float value = normal(generator);
    if (type == Type::f32) {
      static_cast<float*>(data)[i] = value;
      continue;
    }
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
    static_cast<std::uint16_t*>(data)[i] = static_cast<std::uint16_t>(rounded >> 16);
  }
}

/// A product that is ready to run. packs: B is packed once, untimed, as oneDNN itself prefers.
class Job {
 public:
  Job(const Product& p, Type precision, Type output, bool packs)
      : description_(describe(p, precision, output, packs)), product_(description_) {
    const std::size_t size = precision == Type::bf16 ? 2 : 4;
    const auto count = [](memory::dim x, memory::dim y) { return static_cast<std::size_t>(x * y); };
    a_data_ = allocate(count(p.m, p.k) * size);
    b_data_ = allocate(count(p.k, p.n) * size);
    b_packed_ = allocate(description_.weights_desc().get_size());
    c_data_ = allocate(count(p.m, p.n) * 4);
    std::memset(c_data_.get(), 0, count(p.m, p.n) * 4);
    fill_normal(a_data_.get(), count(p.m, p.k), precision, 1);
    fill_normal(b_data_.get(), count(p.k, p.n), precision, 2);
    memory source({{p.k, p.n}, precision, p.b_transposed ? Tag::ba : Tag::ab}, engine_, b_data_.get());
    memory b(description_.weights_desc(), engine_, b_packed_.get());
    dnnl::reorder(source, b).execute(stream_, source, b);
    stream_.wait();
    operands_ = {{DNNL_ARG_SRC, memory(description_.src_desc(), engine_, a_data_.get())},
                 {DNNL_ARG_WEIGHTS, b},
                 {DNNL_ARG_DST, memory(description_.dst_desc(), engine_, c_data_.get())}};
  }
  void run() {
    product_.execute(stream_, operands_);
    stream_.wait();
  }
  std::string implementation() const { return description_.impl_info_str(); }

 private:
  dnnl::matmul::primitive_desc describe(const Product& p, Type precision, Type output, bool packs) const {
    const memory::desc a({p.m, p.k}, precision, p.a_transposed ? Tag::ba : Tag::ab);
    const memory::desc b({p.k, p.n}, precision, packs ? Tag::any : p.b_transposed ? Tag::ba : Tag::ab);
    const memory::desc c({p.m, p.n}, output, Tag::ab);
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (p.accumulate) after.append_sum(1.0f);
    attributes.set_post_ops(after);
#if DNNL_VERSION_MAJOR >= 3
    return {engine_, a, b, c, attributes};
#else
    return {dnnl::matmul::desc(a, b, c), attributes, engine_};
#endif
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul::primitive_desc description_;
  dnnl::matmul product_;
  Buffer a_data_, b_data_, b_packed_, c_data_;
  std::unordered_map<int, memory> operands_;
};

std::string common(const Job& job, int threads) {
  const dnnl_version_t* v = dnnl_version();
  return "\"threads\":" + std::to_string(threads) + ",\"onednn\":\"" + std::to_string(v->major) + "." +
         std::to_string(v->minor) + "." + std::to_string(v->patch) + "\",\"implementation\":\"" + job.implementation() +
         "\",";
}

Product square(memory::dim n) {
  return {n, n, n, false, false, false};
}

/// Operations per second, or 0 where oneDNN has no such product on this processor.
double trial(Type precision) try {
  const Product p = square(1024);
  Job job(p, precision, precision, true);
  return rates(p.operations(), kTrialSeconds, [&] { job.run(); }).median;
} catch (const dnnl::error&) {
  return 0;
}

void measure_peak(int threads) {
  const Type precision = trial(Type::bf16) > trial(Type::f32) ? Type::bf16 : Type::f32;
  std::vector<Type> outputs{Type::f32};
  if (precision == Type::bf16) outputs.push_back(Type::bf16);
  for (const memory::dim size : {1024, 1536, 2048, 3072, 4096})
    for (const Type output : outputs) {
      const Product p = square(size);
      Job job(p, precision, output, true);
      const Summary summary = rates(p.operations() * 1e-9, kPeakSeconds, [&] { job.run(); });
      const std::string extra = "\"size\":" + std::to_string(size) + ",\"precision\":\"" + name(precision) +
                                "\",\"output\":\"" + name(output) + "\",";
      print("matmul", extra + common(job, threads), summary, "GFLOP/s");
    }
}

Product parse(const char* text) {
  long long m, n, k;
  int ta, tb, acc;
  if (std::sscanf(text, "%lld,%lld,%lld,%d,%d,%d", &m, &n, &k, &ta, &tb, &acc) != 6 || m < 1 || n < 1 || k < 1)
    throw std::runtime_error(std::string("a product is M,N,K,TA,TB,ACC with positive M, N and K, not '") + text + "'");
  return {m, n, k, ta != 0, tb != 0, acc != 0};
}

/// A sample is the mean of as many calls as fill some milliseconds.
void measure_product(const Product& p, Type precision, int threads) {
  Job job(p, precision, p.accumulate ? Type::f32 : precision, false);
  job.run();
  const double once = seconds_of([&] { job.run(); });
  const int count = std::clamp(static_cast<int>(kSampleSeconds / once), 1, 1000);
  const double seconds = seconds_of([&] {
                           for (int i = 0; i < count; ++i) job.run();
                         }) /
                         count;
  std::printf("{\"kind\":\"product\",\"precision\":\"%s\",\"m\":%lld,\"n\":%lld,\"k\":%lld,%s\"seconds\":%.6e}\n",
              name(precision), static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k),
              common(job, threads).c_str(), seconds);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string what = argc > 1 ? argv[1] : "";
  const int threads = argc > 2 ? std::atoi(argv[2]) : omp_get_num_procs();
  omp_set_num_threads(threads);
  if (what == "peak")
    measure_peak(threads);
  else if (what == "bfloat16" || what == "float32")
    for (int i = 3; i < argc; ++i)
      measure_product(parse(argv[i]), what == "bfloat16" ? Type::bf16 : Type::f32, threads);
  else
    throw std::runtime_error("the first argument must be peak, bfloat16 or float32, not '" + what + "'");
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "onednn_products: %s\n", error.what());
  return 1;
}
