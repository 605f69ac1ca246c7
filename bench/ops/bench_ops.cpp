// Times every op on one device at one shape, as `bench/ops/index.ts` asks for.
//
//   bench_ops --cases ops|products|cubes|copy --first I --device cpu|cuda:N --dtype bfloat16|float32 --samples N
//             --rows R,… --batch-rows B --attention SxR,… --hidden d --intermediate f --heads h --key-value-heads kv
//             --head-dim hd --vocabulary V
// runs the cases from the I-th on (0: all) and prints one JSON object a line: {"kind":"device","name":…}, and between
// the lines that begin and end a case (bench/lib/case_lines.h)
//   {"kind":"copy","bytes":…,"seconds":[…]}                               bytes read and written by a copy, or
//   {"kind":"op","op":…,"variant":…,"waits":…,"flops":…,"bytes":…,"seconds":[…],
//    "rival":{"name":…,"algorithms":…,"seconds":[…]}}
// where an op is a bare matrix product, with
//    "product":{"m":…,"n":…,"k":…,"a_transposed":…,"b_transposed":…,"accumulate":…}
// A case that throws costs itself alone; then the exit status is 1.
//
// The cases `ops` are a copy and every op; the calls take turns through several sets of operands, which together are
// larger than any cache. `cubes` are the products of square matrices, likewise. `products` are the bare products of a
// training step, each on one set of operands, as in training, where another op has just written them. A sample is the
// mean of as many calls as fill a few milliseconds of the device's own time, after warm-up. A device that records
// replays them as one recording, because with small kernels it would otherwise wait for the host to launch them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>

#include "bench/lib/case_lines.h"
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

int64_t number(const Options& options, const char* name, int64_t least = 1) {
  const int64_t value = std::atoll(text(options, name).c_str());
  MOR_CHECK(value >= least, INVALID_ARGUMENT, name, " must be at least ", least, ", got ", text(options, name));
  return value;
}

std::vector<int64_t> numbers(const Options& options, const char* name) {
  std::vector<int64_t> values;
  std::istringstream list(text(options, name));
  for (std::string item; std::getline(list, item, ',');) values.push_back(number({{name, item}}, name));
  MOR_CHECK(!values.empty(), INVALID_ARGUMENT, name, " is empty");
  return values;
}

/// E.g. 8x2048,1x16384.
std::vector<Sequences> sequences(const Options& options, const char* name) {
  std::vector<Sequences> values;
  std::istringstream list(text(options, name));
  for (std::string item; std::getline(list, item, ',');) {
    const size_t cross = item.find('x');
    MOR_CHECK(cross != std::string::npos, INVALID_ARGUMENT, name, " must be like 8x2048, got ", item);
    values.push_back({number({{name, item.substr(0, cross)}}, name), number({{name, item.substr(cross + 1)}}, name)});
  }
  return values;
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

/// What all cases share.
struct Bench {
  Ops& ops;
  const Normals& normals;
  size_t rotated;   ///< bytes of the operands through which the calls take turns
  CublasLt* rival;  ///< null: there is none
  int64_t samples;
};

void bench_copy(const Bench& bench) {
  Buffers buffers(bench.ops, bench.normals);
  const int64_t columns = int64_t{1} << 20, rows = static_cast<int64_t>(kRotatedBytes / 4) / columns;
  const Tensor from = buffers.masters(rows, columns), to = buffers.masters(rows, columns);
  const std::vector<Run> calls{[&](Ops& ops) { ops.copy(to.data, from.data, kRotatedBytes); }};
  const std::string seconds = json_numbers(time_calls(bench.ops, calls, false, bench.samples));
  print_line(concat("{\"kind\":\"copy\",\"bytes\":", 2 * kRotatedBytes, ",\"seconds\":", seconds, "}"));
}

/// The rival's time as a member of the JSON line, by the fastest of its algorithms; empty if the rival refuses the
/// product, so that other figures remain.
std::string rival_member(const Bench& bench, const Product& product) try {
  std::vector<std::vector<Run>> algorithms;  // the calls of each one on all sets of operands
  const Sets sets(bench.ops, bench.normals, bench.rotated, [&](Buffers& buffers) {
    std::vector<Run> calls = bench.rival->make(product, buffers);
    algorithms.resize(calls.size());
    for (size_t i = 0; i < calls.size(); ++i) algorithms[i].push_back(calls[i]);
    return calls.front();
  });
  const std::vector<Run>* best = nullptr;
  double least = 0;
  for (const std::vector<Run>& calls : algorithms) {
    const double seconds = time_calls(bench.ops, calls, false, 1).front();
    if (best == nullptr || seconds < least) {
      best = &calls;
      least = seconds;
    }
  }
  return concat(",\"rival\":{\"name\":\"cublaslt\",\"algorithms\":", algorithms.size(),
                ",\"seconds\":", json_numbers(time_calls(bench.ops, *best, false, bench.samples)), "}");
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

void bench_op(const Bench& bench, const Case& c) {
  std::string line = concat("{\"kind\":\"op\",\"op\":\"", c.op, "\",\"variant\":\"", c.variant,
                            "\",\"waits\":", c.waits ? "true" : "false", ",\"flops\":", c.flops, ",\"bytes\":", c.bytes,
                            ",\"seconds\":");
  const Sets sets(bench.ops, bench.normals, bench.rotated, c.make);
  line += json_numbers(time_calls(bench.ops, sets.calls, c.waits, bench.samples));
  if (c.product) line += product_member(*c.product);
  if (bench.rival != nullptr && c.product) line += rival_member(bench, *c.product);
  print_line(line + "}");
  bench.ops.synchronize();  // throws if the rival took the device along
}

Shape shape_of(const Options& options) {
  Shape s;
  s.rows = numbers(options, "--rows");
  s.batch_rows = number(options, "--batch-rows");
  s.attention = sequences(options, "--attention");
  s.hidden = number(options, "--hidden");
  s.intermediate = number(options, "--intermediate");
  s.heads = number(options, "--heads");
  s.key_value_heads = number(options, "--key-value-heads");
  s.head_dim = number(options, "--head-dim");
  s.vocabulary = number(options, "--vocabulary");
  return s;
}

Cases cases_of(const std::string& which, const Shape& s) {
  Cases cases;
  if (which == "ops")
    for (const auto add :
         {add_product_cases, add_attention_cases, add_row_cases, add_routing_cases, add_optimizer_cases})
      add(s, cases);
  else if (which == "products")
    add_linear_cases(s, cases);
  else if (which == "cubes")
    add_cube_cases(s, cases);
  else
    MOR_CHECK(which == "copy", INVALID_ARGUMENT, "--cases must be ops, products, cubes or copy, not '", which, "'");
  return cases;
}

/// Whether every case succeeded.
bool run(const Options& options) {
  Shape s = shape_of(options);
  const DType dtype = text(options, "--dtype") == "float32" ? DType::float32 : DType::bfloat16;
  s.size = static_cast<double>(dtype_size(dtype));
  const std::string& which = text(options, "--cases");
  const Cases cases = cases_of(which, s);
  const std::unique_ptr<Ops> ops = make_ops(text(options, "--device"), dtype, 0);
  const std::unique_ptr<CublasLt> rival =
      dtype == DType::bfloat16 && device_stream(*ops) != nullptr ? CublasLt::open(device_stream(*ops), *ops) : nullptr;
  const Normals normals;
  const Bench bench{*ops, normals, which == "products" ? 0 : kRotatedBytes, rival.get(), number(options, "--samples")};
  for (const DeviceInfo& info : list_devices())
    if (info.id == text(options, "--device"))
      print_line(concat("{\"kind\":\"device\",\"name\":", json_string(info.name), "}"));
  int64_t skip = number(options, "--first", 0);
  bool ok = true;
  const auto one = [&](const std::string& name, const std::function<void()>& body) {
    if (--skip < 0) ok &= run_case(name, body);
  };
  if (which == "ops" || which == "copy") one("copy", [&] { bench_copy(bench); });
  for (const Case& c : cases.list()) one(case_name(c), [&] { bench_op(bench, c); });
  return ok;
}

}  // namespace
}  // namespace mor::bench

int main(int argc, char** argv) try {
  return mor::bench::run(mor::bench::parse(argc, argv)) ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_ops: %s\n", error.what());
  return 1;
}
