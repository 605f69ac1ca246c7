// Tests of global_norm, reject_non_finite and adamw: known steps, every device against the reference over several
// steps, and what must not change.
#include "ops/checks/adamw.h"

#include <limits>

#include "ops/adamw_step.h"
#include "test/ops/perturb.h"

namespace mor::test {
namespace {

/// Elements [offset, offset + count), with weights in the compute dtype at the same places of a buffer of their own.
ParameterSegment segment(int64_t offset, int64_t count, DType compute, float weight_decay, float learning_rate_scale) {
  return {offset,  count,        offset * static_cast<int64_t>(dtype_size(compute)),
          compute, weight_decay, learning_rate_scale};
}

/// Two segments with a gap between and behind them: elements of no segment must not change.
std::vector<ParameterSegment> two_segments(int64_t n, DType compute) {
  const int64_t half = n / 2;
  return {segment(0, half / 2 + 1, compute, 0.1f, 1), segment(half, n - half - n / 8, compute, 0, 10)};
}

/// Any value in device memory.
template <class T>
class OnDevice {
 public:
  OnDevice(Ops& ops, const std::vector<T>& values) : ops_(ops), bytes_(values.size() * sizeof(T)) {
    data_ = static_cast<T*>(ops_.allocate(bytes_));
    ops_.copy_to_device(data_, values.data(), bytes_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { ops_.release(data_, bytes_); }
  T* data() const { return data_; }
  std::vector<T> get() const {
    std::vector<T> values(bytes_ / sizeof(T));
    ops_.copy_to_host(values.data(), data_, bytes_);
    return values;
  }

 private:
  Ops& ops_;
  size_t bytes_;
  T* data_;
};

constexpr double kRate = 3e-3;

/// inputs: master, gradient, exp_avg, exp_avg_sq, each [n,1]. outputs: master, weights, exp_avg, exp_avg_sq.
Arrays steps(Ops& ops, const Arrays& in, int64_t first_step, int64_t count, double norm_or_own = -1) {
  const int64_t n = in[0].rows;
  const DType master_dtype = ops.master_dtype();
  Buffer master(ops, master_dtype, n, 1, "master"), weights(ops, ops.compute_dtype(), n, 1, "weights");
  Buffer gradient(ops, master_dtype, n, 1, "gradient"), exp_avg(ops, master_dtype, n, 1, "exp_avg");
  Buffer exp_avg_sq(ops, master_dtype, n, 1, "exp_avg_sq"), norm(ops, master_dtype, 1, 1, "norm");
  master.set(in[0]);
  weights.set(in[0]);
  gradient.set(in[1]);
  exp_avg.set(in[2]);
  exp_avg_sq.set(in[3]);
  const OnDevice<ParameterSegment> segments(ops, two_segments(n, ops.compute_dtype()));
  for (int64_t step = first_step; step < first_step + count; ++step) {
    if (norm_or_own < 0) {
      ops.global_norm(gradient.tensor(), norm.tensor());
    } else {
      norm.set(Array(1, 1, norm_or_own));
    }
    ops.adamw(master.tensor(), weights.tensor().data, gradient.tensor(), exp_avg.tensor(), exp_avg_sq.tensor(),
              norm.tensor(), segments.data(), 2, {}, OnDevice<AdamWStep>(ops, {adamw_step({}, kRate, step)}).data());
  }
  return {master.get(), weights.get(), exp_avg.get(), exp_avg_sq.get()};
}

Arrays random_state(int64_t n) {
  Array squares = random_array(n, 1, 4, 0.01);
  for (double& x : squares.values) x *= x;
  return {random_array(n, 1, 1), random_array(n, 1, 2, 0.1), random_array(n, 1, 3, 0.01), squares};
}

Array norm_of(Ops& ops, const Array& gradient) {
  Buffer g(ops, ops.master_dtype(), gradient.rows, 1, "gradient"), norm(ops, ops.master_dtype(), 1, 1, "norm");
  g.set(gradient);
  ops.global_norm(g.tensor(), norm.tensor());
  return norm.get();
}

/// The first step from zero moments moves every weight by lr * g / (|g| + epsilon), whatever the betas.
TEST(AdamW, FirstStepIsTheSignOfTheGradient) {
  RefOps<double> ops;
  const Array w = random_array(16, 1, 1), g = random_array(16, 1, 2);
  const Array after = steps(ops, {w, g, Array(16, 1), Array(16, 1)}, 1, 1, /*norm=*/0.5)[0];
  for (int64_t i = 0; i < 5; ++i)
    EXPECT_NEAR(after(i), w(i) * (1 - 3e-3 * 0.1f) - 3e-3 * g(i) / (std::abs(g(i)) + 1e-8), 1e-12) << i;
  for (int64_t i = 8; i < 14; ++i) EXPECT_NEAR(after(i), w(i) - 3e-2 * g(i) / (std::abs(g(i)) + 1e-8), 1e-12) << i;
}

TEST(AdamW, ClippingScalesTheGradientByTheNorm) {
  RefOps<double> ops;
  const Arrays state = random_state(16);
  Arrays tenth = state;
  for (double& g : tenth[1].values) g /= 10 + 1e-6;
  const Arrays clipped = steps(ops, state, 1, 1, /*norm=*/10), scaled = steps(ops, tenth, 1, 1, /*norm=*/1e-3);
  for (int64_t i = 0; i < 16; ++i) EXPECT_NEAR(clipped[0](i), scaled[0](i), 1e-12);
}

TEST(AdamW, MatchesReference) {
  for (int64_t n : {8, 21, 1000, 70001})
    for (int64_t first_step : {1, 1000})
      compare_with_reference([&](Ops& ops, const Arrays& in) { return steps(ops, in, first_step, 3); }, random_state(n),
                             {false, false, false, false}, {false, true, false, false});
}

TEST(AdamW, ElementsOfNoSegmentKeepTheirBits) {
  const int64_t n = 1000;
  Arrays state = random_state(n);
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    for (Array& array : state) array = rounded(array, subject.compute);
    const Arrays after = steps(*ops, state, 1, 2);
    const std::vector<ParameterSegment> segments = two_segments(n, subject.compute);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      bool covered = false;
      for (const ParameterSegment& s : segments) covered = covered || (i >= s.offset && i < s.offset + s.count);
      if (covered) continue;
      ++kept;
      EXPECT_EQ(after[0](i), state[0](i)) << subject.name;
      EXPECT_EQ(after[1](i), state[0](i)) << subject.name;
      EXPECT_EQ(after[2](i), state[2](i)) << subject.name;
      EXPECT_EQ(after[3](i), state[3](i)) << subject.name;
    }
    EXPECT_GT(kept, 0);
  }
}

TEST(AdamW, NonFiniteNormChangesNothing) {
  for (const Subject& subject : subjects())
    for (double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      const std::unique_ptr<Ops> ops = subject.make();
      Arrays state = random_state(100);
      for (Array& array : state) array = rounded(array, subject.compute);
      state[1](37) = bad;
      const Arrays after = steps(*ops, state, 1, 1);
      EXPECT_EQ(after[0].values, state[0].values) << subject.name;
      EXPECT_EQ(after[1].values, state[0].values) << subject.name;
      EXPECT_EQ(after[2].values, state[2].values) << subject.name;
      EXPECT_EQ(after[3].values, state[3].values) << subject.name;
    }
}

TEST(AdamW, WeightsMayBeTheMasters) {
  for (const Subject& subject : subjects()) {
    if (subject.compute != DType::float32) continue;
    const std::unique_ptr<Ops> ops = subject.make();
    const int64_t n = 100;
    const Arrays state = random_state(n);
    Buffer master(*ops, DType::float32, n, 1, "master"), gradient(*ops, DType::float32, n, 1, "gradient");
    Buffer exp_avg(*ops, DType::float32, n, 1, "exp_avg"), exp_avg_sq(*ops, DType::float32, n, 1, "exp_avg_sq");
    Buffer norm(*ops, DType::float32, 1, 1, "norm");
    master.set(state[0]);
    gradient.set(state[1]);
    exp_avg.set(state[2]);
    exp_avg_sq.set(state[3]);
    ops->global_norm(gradient.tensor(), norm.tensor());
    const OnDevice<ParameterSegment> segments(*ops, two_segments(n, DType::float32));
    const OnDevice<AdamWStep> step(*ops, {adamw_step({}, kRate, 1)});
    ops->adamw(master.tensor(), master.tensor().data, gradient.tensor(), exp_avg.tensor(), exp_avg_sq.tensor(),
               norm.tensor(), segments.data(), 2, {}, step.data());
    EXPECT_EQ(master.get().values, steps(*ops, state, 1, 1)[0].values) << subject.name;
    EXPECT_EQ(gradient.get().values, rounded(state[1], DType::float32).values) << "the gradient is the caller's";
  }
}

/// The weights of many segments, in both storages, lie in another order than their masters, with gaps between them, and
/// begin where no vector is aligned. Each weight must be its master, rounded, and no other byte may change.
TEST(AdamW, EverySegmentHasItsOwnStorage) {
  const int64_t n = 50000;
  std::vector<ParameterSegment> segments;
  std::mt19937 generator(7);
  for (int64_t at = 5; at < n - 20000; at += segments.back().count + static_cast<int64_t>(generator() % 4)) {
    const bool large = segments.size() % 7 == 3;
    segments.push_back({at, static_cast<int64_t>(1 + generator() % (large ? 20000 : 200)), 0,
                        generator() % 2 == 0 ? DType::bfloat16 : DType::float32, 0.1f, 1});
  }
  int64_t bytes = 0;
  for (size_t i = segments.size(); i-- > 0;) {
    const auto size = static_cast<int64_t>(dtype_size(segments[i].storage));
    segments[i].weight_offset = (bytes + 2 + size - 1) / size * size;
    bytes = segments[i].weight_offset + segments[i].count * size;
  }
  std::vector<Subject> all = subjects();
  all.push_back({"reference", [] { return std::make_unique<RefOps<float>>(); }, DType::float32});
  for (const Subject& subject : all) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays state = random_state(n);
    Buffer master(*ops, DType::float32, n, 1, "master"), gradient(*ops, DType::float32, n, 1, "gradient");
    Buffer exp_avg(*ops, DType::float32, n, 1, "exp_avg"), exp_avg_sq(*ops, DType::float32, n, 1, "exp_avg_sq");
    Buffer norm(*ops, DType::float32, 1, 1, "norm");
    master.set(state[0]);
    gradient.set(state[1]);
    exp_avg.set(state[2]);
    exp_avg_sq.set(state[3]);
    norm.set(Array(1, 1, 0.5));
    const OnDevice<uint8_t> weights(*ops, std::vector<uint8_t>(static_cast<size_t>(bytes) + 64, 0xa5));
    const OnDevice<ParameterSegment> table(*ops, segments);
    const OnDevice<AdamWStep> step(*ops, {adamw_step({}, kRate, 3)});
    ops->adamw(master.tensor(), weights.data(), gradient.tensor(), exp_avg.tensor(), exp_avg_sq.tensor(), norm.tensor(),
               table.data(), static_cast<int32_t>(segments.size()), {}, step.data());
    const Array masters = master.get();
    std::vector<uint8_t> stored = weights.get();
    for (const ParameterSegment& s : segments) {
      const size_t size = dtype_size(s.storage);
      for (int64_t i = 0; i < s.count; ++i) {
        uint8_t* at = stored.data() + s.weight_offset + static_cast<size_t>(i) * size;
        float weight = 0;
        if (s.storage == DType::float32) {
          std::memcpy(&weight, at, size);
        } else {
          bfloat16 half;
          std::memcpy(&half, at, size);
          weight = static_cast<float>(half);
        }
        const double expected = rounded(Array(1, 1, masters(s.offset + i)), s.storage)(0);
        ASSERT_EQ(weight, expected) << "element " << i << " of the segment at " << s.offset;
        ASSERT_NE(masters(s.offset + i), static_cast<float>(state[0](s.offset + i)));
        std::fill_n(at, size, 0xa5);
      }
    }
    for (const uint8_t byte : stored) ASSERT_EQ(byte, 0xa5) << "a byte of no segment was written";
  }
}

TEST(AdamW, StepZeroIsAnError) {
  expect_invalid([](Ops& ops) { steps(ops, random_state(8), 0, 1); }, "adamw: step is 0, but steps count from 1");
}

/// For devices whose memory the host can read; the others do not touch what lies outside the buffers.
TEST(AdamW, SegmentsOutsideTheBuffersOrOverEachOtherAreErrors) {
  const auto with = [](const std::vector<ParameterSegment>& segments) {
    const Tensor master = make_vector(nullptr, DType::float32, 8, "master");
    return [=] { check_adamw_segments(segments.data(), static_cast<int32_t>(segments.size()), master); };
  };
  const auto message = [](const std::function<void()>& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(with({{0, 4}, {4, 0}, {5, 3}})), "");
  EXPECT_EQ(message(with({{4, 5}})), "adamw: segment 0 covers 4 .. 9, but it must lie within 0 .. 8");
  EXPECT_EQ(message(with({{0, 4}, {3, 1}})), "adamw: segment 1 covers 3 .. 4, but it must lie within 4 .. 8");
  EXPECT_EQ(message(with({{0, 4, 0, DType::uint8}})),
            "adamw: segment 0 is stored as uint8, but weights are float32, bfloat16 or, like the masters, float32");
  EXPECT_EQ(message(with({{0, 4, 2, DType::bfloat16}})), "");
  EXPECT_EQ(message(with({{0, 4, 2, DType::float32}})),
            "adamw: the weights of segment 0 begin at byte 2, but a multiple of the 4 bytes of float32 is needed");
}

/// Segments of every size beside each other, some longer and many shorter than what a block of threads takes at a time.
TEST(AdamW, ManySegmentsMatchReference) {
  const int64_t n = 60000;
  std::vector<ParameterSegment> segments;
  std::mt19937 generator(5);
  for (int64_t at = 3; at < n;) {
    const auto count = static_cast<int64_t>(generator() % (segments.size() % 9 == 0 ? 20000 : 300));
    segments.push_back({at, std::min(count, n - at), 0, DType::float32, static_cast<float>(segments.size() % 3) * 0.1f,
                        static_cast<float>(1 + segments.size() % 5)});
    at += segments.back().count + static_cast<int64_t>(generator() % 4);
  }
  compare_with_reference(
      [&](Ops& ops, const Arrays& in) -> Arrays {
        const DType dtype = ops.master_dtype();
        Buffer master(ops, dtype, n, 1, "master"), gradient(ops, dtype, n, 1, "gradient");
        Buffer exp_avg(ops, dtype, n, 1, "exp_avg"), exp_avg_sq(ops, dtype, n, 1, "exp_avg_sq");
        Buffer weights(ops, ops.compute_dtype(), n, 1, "weights"), norm(ops, dtype, 1, 1, "norm");
        master.set(in[0]);
        weights.set(in[0]);
        gradient.set(in[1]);
        exp_avg.set(in[2]);
        exp_avg_sq.set(in[3]);
        ops.global_norm(gradient.tensor(), norm.tensor());
        std::vector<ParameterSegment> stored = segments;
        for (ParameterSegment& s : stored)
          s = segment(s.offset, s.count, ops.compute_dtype(), s.weight_decay, s.learning_rate_scale);
        const OnDevice<ParameterSegment> device(ops, stored);
        const OnDevice<AdamWStep> step(ops, {adamw_step({}, kRate, 3)});
        ops.adamw(master.tensor(), weights.tensor().data, gradient.tensor(), exp_avg.tensor(), exp_avg_sq.tensor(),
                  norm.tensor(), device.data(), static_cast<int32_t>(segments.size()), {}, step.data());
        return {master.get(), weights.get(), exp_avg.get(), exp_avg_sq.get()};
      },
      random_state(n), {false, false, false, false}, {false, true, false, false});
}

TEST(RejectNonFinite, MakesTheNormNanWhereAnyValueIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const Subject& subject : subjects())
    for (double bad : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN(), 3e38, 0.0})
      for (int64_t place : {0, 299}) {
        const std::unique_ptr<Ops> ops = subject.make();
        Array array = random_array(300, 1, 1);
        array(place) = bad;
        Buffer values(*ops, DType::float32, 300, 1, "values"), norm(*ops, DType::float32, 1, 1, "norm");
        values.set(array);
        norm.set(Array(1, 1, 0.5));
        ops->reject_non_finite(values.tensor(), norm.tensor());
        if (std::isfinite(bad))
          EXPECT_EQ(norm.get()(0), 0.5) << subject.name;
        else
          EXPECT_TRUE(std::isnan(norm.get()(0))) << subject.name << " " << bad;
        ops->reject_non_finite(values.tensor().slice(0, 0), norm.tensor());
      }
}

TEST(GlobalNorm, IsTheSameForEveryNumberOfThreads) {
  const Array gradient = random_array(200001, 1, 1);
  const double once = norm_of(*make_ops("cpu", DType::float32, 1), gradient)(0);
  for (int threads : {2, 3, 7}) EXPECT_EQ(norm_of(*make_ops("cpu", DType::float32, threads), gradient)(0), once);
}

TEST(GlobalNorm, KnownAndExtremeValues) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Array gradient(50000, 1);
    EXPECT_EQ(norm_of(*ops, gradient)(0), 0);
    gradient(17) = 3;
    gradient(49999) = -4;
    EXPECT_EQ(norm_of(*ops, gradient)(0), 5);
    EXPECT_NEAR(norm_of(*ops, Array(40000, 1, 1e20))(0) / 2e22, 1, 1e-6);  // float cannot hold its squares
    EXPECT_EQ(norm_of(*ops, Array(0, 1))(0), 0);
  }
}

TEST(GlobalNorm, MatchesReference) {
  for (int64_t n : {1, 17, 100000})
    for (const Subject& subject : subjects()) {
      RefOps<double> reference;
      const Array gradient = rounded(random_array(n, 1, 2), DType::float32);
      const double exact = norm_of(reference, gradient)(0);
      EXPECT_EQ(norm_of(*subject.make(), gradient)(0), static_cast<float>(exact)) << subject.name;
    }
}

}  // namespace
}  // namespace mor::test
