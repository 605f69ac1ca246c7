// Tests of ops whose allocations fail: the caller gets the error, whichever thread of the team met it, and the device
// goes on with the scratch memory that it had. This program replaces the functions that allocate.
#include <atomic>
#include <cstdlib>
#include <map>
#include <new>
#include <numeric>
#include <tuple>

#include "cpu/cpu_device.h"
#include "test/ops/harness.h"

namespace {

constexpr int64_t kNever = int64_t{1} << 60;
std::atomic<int64_t> left{kNever};  ///< allocations that succeed before one fails
std::atomic<int64_t> aligned{0};    ///< blocks that a device has asked for

bool fails() {
  return left.fetch_sub(1) == 0;
}

}  // namespace

void* operator new(size_t bytes) {
  void* pointer = fails() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return fails() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
}
/// Over-aligned objects of the op itself, which libstdc++ would take from aligned_alloc, as a device takes its blocks.
void* operator new(size_t bytes, std::align_val_t alignment) {
  void* pointer = nullptr;
  if (fails() || posix_memalign(&pointer, static_cast<size_t>(alignment), bytes) != 0) throw std::bad_alloc();
  return pointer;
}
void operator delete(void* pointer) noexcept {
  std::free(pointer);
}
void operator delete(void* pointer, std::align_val_t) noexcept {
  std::free(pointer);
}
void operator delete(void* pointer, size_t, std::align_val_t) noexcept {
  std::free(pointer);
}
void operator delete(void* pointer, size_t) noexcept {
  std::free(pointer);
}
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  ++aligned;
  void* pointer = nullptr;
  return fails() || posix_memalign(&pointer, alignment, bytes) != 0 ? nullptr : pointer;
}

namespace mor::test {
namespace {

/// Runs an op, given as a function, on buffers that exist already.
using Around = std::function<void(const std::function<void()>& op)>;
/// Makes buffers, runs one op on them by `around`, and returns the outputs.
using Call = std::function<Arrays(Ops& ops, const Around& around)>;

void plainly(const std::function<void()>& op) {
  op();
}

/// Runs an op whose allocation number `number` fails, counted from 0; false where the op has fewer allocations.
bool fails_at(Ops& ops, const Call& call, int64_t number) {
  bool failed = false;
  call(ops, [&](const std::function<void()>& op) {
    left = number;
    try {
      op();
    } catch (const std::bad_alloc&) {
      failed = true;
    } catch (const Error& error) {
      failed = error.code() == ErrorCode::OUT_OF_MEMORY;
    }
    const bool reached = left < 0;
    left = kNever;
    EXPECT_EQ(failed, reached) << "allocation " << number;
    failed = reached;
  });
  return failed;
}

void expect_same(const Arrays& actual, const Arrays& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t o = 0; o < actual.size(); ++o) EXPECT_EQ(actual[o].values, expected[o].values) << "output " << o;
}

/// `call` on the smallest and the best instruction set, in both precisions, by a team of 4 threads.
void expect_survives(const Call& call) {
  const std::vector<std::string> sets = cpu_instruction_sets();
  for (const std::string& isa : {sets.front(), sets.back()})
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      SCOPED_TRACE(isa + " " + dtype_name(dtype));
      const auto device = [&] { return make_cpu_ops(dtype, 4, isa); };
      const Arrays expected = call(*device(), plainly);
      // Allocations of a device's first call fail, one at a time. The second call is as if nothing had happened.
      bool failed = true;
      for (int64_t number = 0; failed; ++number) {
        const std::unique_ptr<Ops> first = device();
        failed = fails_at(*first, call, number);
        expect_same(call(*first, plainly), expected);
      }
      // However often an op fails, a device that has its scratch memory takes no more.
      const std::unique_ptr<Ops> ops = device();
      call(*ops, plainly);
      const auto blocks_of_a_call = [&] {
        int64_t blocks = 0;
        call(*ops, [&](const std::function<void()>& op) {
          const int64_t before = aligned;
          op();
          blocks = aligned - before;
        });
        return blocks;
      };
      int64_t allocations = 0;
      while (fails_at(*ops, call, allocations)) ++allocations;
      for (int time = 0; allocations > 0 && time < 20; ++time) EXPECT_TRUE(fails_at(*ops, call, allocations - 1));
      EXPECT_EQ(blocks_of_a_call(), 0);
    }
}

/// random_array, which draws each array once: every failing allocation needs the same ones again.
const Array& drawn_array(int64_t rows, int64_t columns, uint32_t seed) {
  static std::map<std::tuple<int64_t, int64_t, uint32_t>, Array> arrays;
  const auto [entry, is_new] = arrays.try_emplace({rows, columns, seed});
  if (is_new) entry->second = random_array(rows, columns, seed);
  return entry->second;
}

/// A buffer of the compute dtype, or of the master dtype, with random numbers.
struct Filled : Buffer {
  Filled(Ops& ops, int64_t rows, int64_t columns, uint32_t seed, bool master = false)
      : Buffer(ops, master ? ops.master_dtype() : ops.compute_dtype(), rows, columns, "filled") {
    set(drawn_array(rows, columns, seed));
  }
};

TEST(FailedAllocation, Sample) {
  expect_survives([](Ops& ops, const Around& around) -> Arrays {
    constexpr int64_t kRows = 16, kVocabulary = 3000;
    const Filled logits(ops, kRows, kVocabulary, 1, true);
    std::vector<SamplingParams> params(kRows);
    const std::vector<LogitEdit> edits = {{.token = 3, .bias = 6}, {.token = 2000, .repetition = 3, .penalty = 1}};
    for (size_t i = 0; i < kRows; ++i) {
      if (i % 3 == 0) {
        params[i].edits = edits.data();
        params[i].edit_count = static_cast<int32_t>(edits.size());
      }
      params[i].temperature = 1;
      params[i].top_k = i % 2 == 0 ? 20 : 0;
      params[i].top_p = 0.7f;
      params[i].counter = i;
    }
    std::vector<int32_t> tokens(kRows);
    around([&] { ops.sample(logits.tensor(), params.data(), tokens.data(), nullptr, nullptr); });
    Array drawn(kRows, 1);
    std::copy(tokens.begin(), tokens.end(), drawn.values.begin());
    return {drawn};
  });
}

TEST(FailedAllocation, LinearBackward) {
  expect_survives([](Ops& ops, const Around& around) -> Arrays {
    const Filled d_y(ops, 150, 96, 1), x(ops, 150, 160, 2), weight(ops, 96, 160, 3), d_weight(ops, 96, 160, 4, true),
        d_x(ops, 150, 160, 5);
    around([&] {
      ops.linear_backward_input(d_y.tensor(), weight.tensor(), d_x.tensor());
      ops.linear_backward_weight(d_y.tensor(), x.tensor(), d_weight.tensor());
    });
    return {d_x.get(), d_weight.get()};
  });
}

TEST(FailedAllocation, RmsnormBackward) {
  expect_survives([](Ops& ops, const Around& around) -> Arrays {
    const Filled d_y(ops, 600, 64, 1), x(ops, 600, 64, 2), weight(ops, 1, 64, 3), rstd(ops, 1, 600, 4, true),
        d_x(ops, 600, 64, 5), d_weight(ops, 1, 64, 6, true);
    around([&] {
      ops.rmsnorm_backward(d_y.tensor(), x.tensor(), weight.tensor(), rstd.tensor(), d_x.tensor(), d_weight.tensor());
    });
    return {d_x.get(), d_weight.get()};
  });
}

/// One sequence, so long that the team's threads share the keys of a head and one of them adds up what they found.
TEST(FailedAllocation, AttentionBackward) {
  expect_survives([](Ops& ops, const Around& around) -> Arrays {
    constexpr int32_t kRows = 300, kHeadDim = 32;
    const Filled d_out(ops, kRows, kHeadDim, 1), q(ops, kRows, kHeadDim, 2), k(ops, kRows, kHeadDim, 3),
        v(ops, kRows, kHeadDim, 4), out(ops, kRows, kHeadDim, 5), lse(ops, kRows, 1, 6, true),
        d_q(ops, kRows, kHeadDim, 7), d_k(ops, kRows, kHeadDim, 8), d_v(ops, kRows, kHeadDim, 9);
    std::vector<int32_t> visible(kRows);
    std::iota(visible.begin(), visible.end(), 1);
    const Integers start(ops, {0, kRows}), seen(ops, visible), key_start(ops, {0});
    Rows rows;
    rows.count = rows.max_rows = rows.max_keys = kRows;
    rows.key_lists = 1;
    rows.start = start.data();
    rows.visible = seen.data();
    rows.key_start = key_start.data();
    const auto heads = [&](const Buffer& b) { return b.tensor().heads(kHeadDim); };
    ops.attention_forward(heads(q), heads(k), heads(v), rows, heads(out), lse.tensor());
    around([&] {
      ops.attention_backward(heads(d_out), heads(q), heads(k), heads(v), heads(out), lse.tensor(), rows, heads(d_q),
                             heads(d_k), heads(d_v));
    });
    return {d_q.get(), d_k.get(), d_v.get()};
  });
}

}  // namespace
}  // namespace mor::test
