// Times every op on one device at one shape, as `bench/ops/index.ts` asks for.
//
//   bench_ops --cases ops|products --device cpu|cuda:N --dtype bfloat16|float32 --samples N --rows R --batch-rows B
//             --hidden d --intermediate f --heads h --key-value-heads kv --head-dim hd --vocabulary V
// prints one JSON object a line:
//   {"kind":"device","name":…}
//   {"kind":"copy","bytes":…,"seconds":[…]}                               bytes read and written by a copy; only of ops
//   {"kind":"op","op":…,"variant":…,"waits":…,"flops":…,"bytes":…,"seconds":[…],"rival":{"name":…,"seconds":[…]}}
// and where an op is a bare matrix product,
// "product":{"m":…,"n":…,"k":…,"a_transposed":…,"b_transposed":…,"accumulate":…}
//
// The cases `ops` are every op; the calls take turns through several sets of operands, which together are larger than
// any cache. The cases `products` are the bare products of a training step, each on one set of operands, as in
// training, where another op has just written them. A sample is the mean of as many calls as fill a few milliseconds of
// the device's own time, after warm-up. A device that records replays them as one recording, because with small kernels
// it would otherwise wait for the host to launch them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>

#include "bench/ops/case.h"
#include "bench/ops/rival.h"
#include "device/device.h"

namespace mor::bench {
namespace {

constexpr size_t kRotatedBytes = size_t{512} << 20;  // twice the largest cache of the processors and GPUs of today
constexpr size_t kMostSets = 1024;
constexpr double kSampleSeconds = 0.01;

using Options = std::map<std::string, std::string>;

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  return options;
}

const std::string& text(const Options& options, const char* name) {
  const auto found = options.find(name);
  MOR_CHECK(found != options.end(), INVALID_ARGUMENT, name, " is missing");
  return found->second;
}

int64_t number(const Options& options, const char* name) {
  const int64_t value = std::atoll(text(options, name).c_str());
  MOR_CHECK(value >= 1, INVALID_ARGUMENT, name, " must be at least 1, got ", text(options, name));
  return value;
}

/// Operands and calls of one case.
struct Sets {
  std::vector<std::unique_ptr<Buffers>> buffers;
  std::vector<Run> calls;

  /// As many sets as take `bytes`, but at least one.
  Sets(Ops& ops, const Normals& normals, size_t bytes, const std::function<Run(Buffers&)>& make) {
    do {
      buffers.push_back(std::make_unique<Buffers>(ops, normals));
      calls.push_back(make(*buffers.back()));
    } while (calls.size() < kMostSets && buffers.front()->used() * calls.size() < bytes);
  }
};

/// Seconds of one call, one value for each sample. waits: whether a call waits for the device and cannot be recorded.
std::vector<double> time_calls(Ops& ops, const std::vector<Run>& calls, bool waits, int64_t samples) {
  const auto round = static_cast<int64_t>(calls.size());
  size_t next = 0;
  const auto seconds = [&](int64_t count) {
    return device_seconds(ops, [&] {
      for (int64_t i = 0; i < count; ++i) calls[next++ % calls.size()](ops);
    });
  };
  seconds(round);  // uses every set once, since first uses are slow
  const double once = seconds(2) / 2;
  auto count = std::clamp<int64_t>(static_cast<int64_t>(kSampleSeconds / once), 1, 1000);
  std::vector<double> values;
  if (waits || !ops.records()) {
    for (int64_t i = 0; i < samples; ++i) values.push_back(seconds(count) / static_cast<double>(count));
    return values;
  }
  count = (count + round - 1) / round * round;
  std::unique_ptr<Recording> recording;
  const auto replay = [&] {
    ops.replay(recording, {}, [&] {
      for (int64_t i = 0; i < count; ++i) calls[static_cast<size_t>(i % round)](ops);
    });
  };
  for (int meeting = 0; meeting < 2; ++meeting) replay();  // the second one records
  for (int64_t i = 0; i < samples; ++i) values.push_back(device_seconds(ops, replay) / static_cast<double>(count));
  return values;
}

std::string json(const std::vector<double>& values) {
  std::string list = "[";
  char digits[32];
  for (size_t i = 0; i < values.size(); ++i) {
    std::snprintf(digits, sizeof digits, "%s%.6e", i == 0 ? "" : ",", values[i]);
    list += digits;
  }
  return list + "]";
}

void bench_copy(Ops& ops, const Normals& normals, int64_t samples) {
  Buffers buffers(ops, normals);
  const int64_t columns = int64_t{1} << 20, rows = static_cast<int64_t>(kRotatedBytes / 4) / columns;
  const Tensor from = buffers.masters(rows, columns), to = buffers.masters(rows, columns);
  const std::vector<Run> calls{[&](Ops&) { ops.copy(to.data, from.data, kRotatedBytes); }};
  const std::string seconds = json(time_calls(ops, calls, false, samples));
  std::printf("{\"kind\":\"copy\",\"bytes\":%zu,\"seconds\":%s}\n", 2 * kRotatedBytes, seconds.c_str());
}

/// The rival's time as a member of the JSON line; empty if the rival refuses the product, so that other figures remain.
std::string rival_member(Ops& ops, const Normals& normals, size_t rotated, const Product& product, CublasLt& rival,
                         int64_t samples) try {
  const Sets sets(ops, normals, rotated, [&](Buffers& buffers) { return rival.make(product, buffers); });
  return ",\"rival\":{\"name\":\"cublaslt\",\"seconds\":" + json(time_calls(ops, sets.calls, false, samples)) + "}";
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_ops: %s\n", error.what());
  return "";
}

std::string product_member(const Product& p) {
  const auto truth = [](bool value) { return value ? "true" : "false"; };
  return concat(",\"product\":{\"m\":", p.m, ",\"n\":", p.n, ",\"k\":", p.k,
                ",\"a_transposed\":", truth(p.a_transposed), ",\"b_transposed\":", truth(p.b_transposed),
                ",\"accumulate\":", truth(p.accumulate), "}");
}

/// rotated: bytes of the operands through which the calls take turns.
void bench_case(Ops& ops, const Normals& normals, size_t rotated, const Case& c, CublasLt* rival, int64_t samples) {
  std::string line = concat("{\"kind\":\"op\",\"op\":\"", c.op, "\",\"variant\":\"", c.variant,
                            "\",\"waits\":", c.waits ? "true" : "false", ",\"flops\":", c.flops, ",\"bytes\":", c.bytes,
                            ",\"seconds\":");
  line += json(time_calls(ops, Sets(ops, normals, rotated, c.make).calls, c.waits, samples));
  if (c.product) line += product_member(*c.product);
  if (rival != nullptr && c.product) line += rival_member(ops, normals, rotated, *c.product, *rival, samples);
  std::printf("%s}\n", line.c_str());
  std::fflush(stdout);
}

void run(const Options& options) {
  Shape s;
  s.rows = number(options, "--rows");
  s.batch_rows = number(options, "--batch-rows");
  s.hidden = number(options, "--hidden");
  s.intermediate = number(options, "--intermediate");
  s.heads = number(options, "--heads");
  s.key_value_heads = number(options, "--key-value-heads");
  s.head_dim = number(options, "--head-dim");
  s.vocabulary = number(options, "--vocabulary");
  const int64_t samples = number(options, "--samples");
  const DType dtype = text(options, "--dtype") == "float32" ? DType::float32 : DType::bfloat16;
  const std::unique_ptr<Ops> ops = make_ops(text(options, "--device"), dtype, 0);
  const std::unique_ptr<CublasLt> rival =
      dtype == DType::bfloat16 && device_stream(*ops) != nullptr ? CublasLt::open(device_stream(*ops), *ops) : nullptr;
  const Normals normals;
  s.size = static_cast<double>(dtype_size(dtype));
  const std::string& which = text(options, "--cases");
  const bool every_op = which == "ops";
  MOR_CHECK(every_op || which == "products", INVALID_ARGUMENT, "--cases must be ops or products, not '", which, "'");
  Cases cases;
  if (every_op)
    for (const auto add :
         {add_product_cases, add_attention_cases, add_row_cases, add_routing_cases, add_optimizer_cases})
      add(s, cases);
  else
    add_linear_cases(s, cases);
  for (const DeviceInfo& info : list_devices())
    if (info.id == text(options, "--device")) std::printf("{\"kind\":\"device\",\"name\":\"%s\"}\n", info.name.c_str());
  if (every_op) bench_copy(*ops, normals, samples);
  const size_t rotated = every_op ? kRotatedBytes : 0;
  for (const Case& c : cases.list()) bench_case(*ops, normals, rotated, c, rival.get(), samples);
}

}  // namespace
}  // namespace mor::bench

int main(int argc, char** argv) try {
  mor::bench::run(mor::bench::parse(argc, argv));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_ops: %s\n", error.what());
  return 1;
}
