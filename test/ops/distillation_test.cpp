// Tests of distillation: the reference against the complex step and against the definition of the divergence, and every
// device against the reference.
#include "ops/checks/distillation.h"

#include "test/error_message.h"
#include "test/ops/harness.h"
#include "test/ops/some_targets.h"

namespace mor::test {
namespace {

constexpr DistillationParams kParams{2.5, 0.25, 0.75};

/// What one call works on.
struct Buffers {
  Buffer x, weight, teacher_x, teacher_weight, losses, divergences, d_x, d_weight;
  Buffers(Ops& ops, int64_t rows, int64_t d, int64_t e, int64_t vocabulary)
      : x(ops, ops.compute_dtype(), rows, d, "x"),
        weight(ops, ops.compute_dtype(), vocabulary, d, "weight"),
        teacher_x(ops, ops.compute_dtype(), rows, e, "teacher_x"),
        teacher_weight(ops, ops.compute_dtype(), vocabulary, e, "teacher_weight"),
        losses(ops, ops.master_dtype(), rows, 1, "losses"),
        divergences(ops, ops.master_dtype(), rows, 1, "divergences"),
        d_x(ops, ops.compute_dtype(), rows, d, "d_x"),
        d_weight(ops, ops.master_dtype(), vocabulary, d, "d_weight") {}
  void set(const Arrays& in) {
    x.set(in[0]);
    weight.set(in[1]);
    teacher_x.set(in[2]);
    teacher_weight.set(in[3]);
  }
  void run(Ops& ops, const int32_t* target, const DistillationParams& params, bool of_weight = true) {
    ops.distillation(x.tensor(), weight.tensor(), teacher_x.tensor(), teacher_weight.tensor(), target, params,
                     losses.tensor(), divergences.tensor(), d_x.tensor(), of_weight ? d_weight.tensor() : Tensor{});
  }
};

Buffers buffers_for(Ops& ops, const Arrays& in) {
  return {ops, in[0].rows, in[0].columns, in[2].columns, in[1].rows};
}

/// inputs: x, weight, teacher_x, teacher_weight, start value of d_weight. outputs: losses, divergences, d_x, d_weight,
/// after two calls into the same buffers.
Arrays twice(Ops& ops, const Arrays& in, const std::vector<int32_t>& target, const DistillationParams& params) {
  Buffers b = buffers_for(ops, in);
  b.set(in);
  b.d_weight.set(in[4]);
  const Integers targets(ops, target);
  for (int time = 0; time < 2; ++time) b.run(ops, targets.data(), params);
  return {b.losses.get(), b.divergences.get(), b.d_x.get(), b.d_weight.get()};
}

std::vector<double> softmax(const Array& x, const Array& weight, int64_t i, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (int64_t j = 0; j < weight.rows; ++j) {
    double logit = 0;
    for (int64_t c = 0; c < x.columns; ++c) logit += x(i, c) * weight(j, c);
    p.push_back(std::exp(logit / temperature));
    sum += p.back();
  }
  for (double& value : p) value /= sum;
  return p;
}

/// The gradient of row i's logits, by the definitions.
std::vector<double> logit_gradient(const Arrays& in, int64_t i, int32_t target, const DistillationParams& params) {
  const std::vector<double> softmax_1 = softmax(in[0], in[1], i, 1), q = softmax(in[0], in[1], i, params.temperature),
                            p = softmax(in[2], in[3], i, params.temperature);
  std::vector<double> g;
  for (size_t j = 0; j < p.size(); ++j)
    g.push_back(params.loss_scale * (softmax_1[j] - (static_cast<int32_t>(j) == target ? 1 : 0)) +
                params.divergence_scale * params.temperature * (q[j] - p[j]));
  return g;
}

/// `exact` with d_x and d_weight from gradients of the logits that are rounded to bfloat16, as products in bfloat16
/// need them.
Arrays with_rounded_gradients(Arrays exact, const Arrays& in, const std::vector<int32_t>& target,
                              const DistillationParams& params) {
  exact[2] = Array(in[0].rows, in[0].columns);
  exact[3] = in[4];
  for (int64_t i = 0; i < in[0].rows; ++i) {
    if (target[static_cast<size_t>(i)] < 0) continue;
    const std::vector<double> gradient = logit_gradient(in, i, target[static_cast<size_t>(i)], params);
    for (int64_t j = 0; j < in[1].rows; ++j) {
      const auto g =
          static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(gradient[static_cast<size_t>(j)]))));
      for (int64_t c = 0; c < in[0].columns; ++c) {
        exact[2](i, c) += g * in[1](j, c);
        exact[3](j, c) += 2 * g * in[0](i, c);
      }
    }
  }
  return exact;
}

/// The largest row count and the largest vocabulary do not fit one tile of the CPU.
struct Shape {
  int64_t rows, d, e, vocabulary;
};
const std::vector<Shape> kShapes = {{0, 8, 4, 5},      {1, 1, 2, 1},       {1, 16, 16, 257}, {5, 15, 8, 33},
                                    {64, 24, 32, 256}, {33, 32, 64, 1000}, {600, 6, 4, 300}};

TEST(Distillation, ReferenceGradientIsTheComplexStep) {
  const std::vector<int32_t> target = {2, -1, 0, 6};
  const Arrays in = {random_array(4, 5, 1), random_array(7, 5, 2), random_array(4, 3, 3), random_array(7, 3, 4)};
  const Array loss(4, 1, kParams.loss_scale), divergence(4, 1, kParams.divergence_scale);
  RefOps<double> ops;
  Arrays start = in;
  start.push_back(Array(7, 5));
  const Arrays out = twice(ops, start, target, kParams);
  Array d_weight = out[3];
  for (double& value : d_weight.values) value /= 2;
  const PerturbedForward perturbed = [&](RefOps<Complex>& c, const Arrays& inputs, const Step& step) -> Arrays {
    Buffers b = buffers_for(c, inputs);
    b.set(inputs);
    (step.input == 0 ? b.x : b.weight).add_imaginary(step.i, step.j, step.h);
    b.run(c, target.data(), kParams, false);
    return {b.losses.get_imaginary(), b.divergences.get_imaginary()};
  };
  expect_complex_step_gradient(perturbed, in, {loss, divergence}, {out[2], d_weight}, {0, 1});
}

TEST(Distillation, DivergenceIsThatOfTheTemperedDistributions) {
  const Arrays in = {random_array(3, 5, 1), random_array(7, 5, 2), random_array(3, 3, 3), random_array(7, 3, 4),
                     Array(7, 5)};
  RefOps<double> ops;
  const Arrays out = twice(ops, in, {0, 3, -1}, kParams);
  for (int64_t i = 0; i < 2; ++i) {
    const std::vector<double> q = softmax(in[0], in[1], i, kParams.temperature),
                              p = softmax(in[2], in[3], i, kParams.temperature);
    double divergence = 0;
    for (size_t j = 0; j < p.size(); ++j) divergence += p[j] * std::log(p[j] / q[j]);
    EXPECT_NEAR(out[1](i), kParams.temperature * kParams.temperature * divergence, 1e-12);
    EXPECT_NEAR(out[0](i), -std::log(softmax(in[0], in[1], i, 1)[i == 0 ? 0 : 3]), 1e-12);
  }
  EXPECT_EQ(out[0](2), 0);
  EXPECT_EQ(out[1](2), 0);
}

TEST(Distillation, MatchesReferenceAndAccumulatesWeights) {
  for (const Shape& s : kShapes)
    for (const DistillationParams& params : {kParams, DistillationParams{1, 0, 0.5}}) {
      SCOPED_TRACE(concat(s.rows, " x ", s.vocabulary));
      const std::vector<int32_t> target = some_targets(s.rows, s.vocabulary);
      const Arrays in = {random_array(s.rows, s.d, 6), random_array(s.vocabulary, s.d, 7), random_array(s.rows, s.e, 8),
                         random_array(s.vocabulary, s.e, 9), random_array(s.vocabulary, s.d, 10)};
      const auto expected_of = [&](DType compute) -> Expected {
        RefOps<double> exact_ops;
        RefOps<float> naive_ops;
        const Arrays start = rounded(in, {true, true, true, true, false}, compute);
        const Arrays naive = twice(naive_ops, start, target, params);
        return {start, twice(exact_ops, start, target, params),
                compute == DType::bfloat16 ? with_rounded_gradients(naive, start, target, params) : naive};
      };
      compare_with(expected_of, [&](Ops& ops, const Arrays& start) { return twice(ops, start, target, params); },
                   {false, false, true, false});
    }
}

TEST(Distillation, AHighTemperatureLosesNoDivergenceInRounding) {
  const DistillationParams params{300, 0.25, 0.75};
  Array x = random_array(5, 16, 1), teacher_x = x;
  const Array weight = random_array(2000, 16, 2), noise = random_array(5, 16, 3);
  for (size_t i = 0; i < x.values.size(); ++i) teacher_x.values[i] += 0.2 * noise.values[i];
  const std::vector<int32_t> target = some_targets(5, 2000);
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    if (ops->compute_dtype() != DType::float32) continue;  // bfloat16 rounds the logits' factors
    SCOPED_TRACE(subject.name);
    const Arrays in = {x, weight, teacher_x, weight, Array(2000, 16)};
    RefOps<double> exact_ops;
    const Arrays exact = twice(exact_ops, rounded(in, {true, true, true, true, false}, DType::float32), target, params);
    const Arrays out = twice(*ops, in, target, params);
    for (int64_t i = 0; i < 5; ++i) EXPECT_NEAR(out[1](i), exact[1](i), 1e-3 * exact[1](i)) << i;
  }
}

TEST(Distillation, AStudentThatIsItsTeacherHasNoDivergenceAndNoGradientOfIt) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const Array x = random_array(9, 16, 1), weight = random_array(77, 16, 2);
    const Arrays out = twice(*subject.make(), {x, weight, x, weight, Array(77, 16)}, some_targets(9, 77), {3, 0, 1});
    for (const size_t o : {1, 2, 3})
      for (const double value : out[o].values) ASSERT_EQ(value, 0) << "output " << o;
    for (int64_t i = 0; i < 9; ++i) EXPECT_EQ(out[0](i) > 0, i % 5 != 4);
  }
}

TEST(Distillation, WithoutDivergenceItIsCrossEntropy) {
  const std::vector<int32_t> target = some_targets(9, 40);
  const Arrays in = {random_array(9, 16, 1), random_array(40, 16, 2), random_array(9, 8, 3), random_array(40, 8, 4)};
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const std::unique_ptr<Ops> ops = subject.make();
    Buffers b = buffers_for(*ops, in);
    b.set(in);
    const Integers targets(*ops, target);
    b.run(*ops, targets.data(), {2, 0.25, 0}, false);
    const Array losses = b.losses.get(), d_x = b.d_x.get();
    ops->cross_entropy_backward(b.x.tensor(), b.weight.tensor(), targets.data(), 0.25, b.losses.tensor(),
                                b.d_x.tensor(), {});
    const double unit = subject.compute == DType::bfloat16 ? 0x1p-7 : 1e-6;
    for (int64_t i = 0; i < 9; ++i) EXPECT_NEAR(losses(i), b.losses.get()(i), 1e-5);
    for (size_t e = 0; e < d_x.values.size(); ++e) EXPECT_NEAR(d_x.values[e], b.d_x.get().values[e], unit);
  }
}

TEST(Distillation, LogitsOfAThousandDoNotOverflow) {
  for (const Subject& subject : subjects()) {
    SCOPED_TRACE(subject.name);
    const Array x(2, 4, 16), weight(3, 4, 16);  // every logit is 1024
    const Arrays out = twice(*subject.make(), {x, weight, Array(2, 4, -16), weight, Array(3, 4)}, {0, 2}, kParams);
    for (const double loss : out[0].values) EXPECT_NEAR(loss, std::log(3.0), 1e-4);
    for (const double divergence : out[1].values) EXPECT_NEAR(divergence, 0, 1e-5);
  }
}

TEST(Distillation, BadArgumentsAreNamed) {
  for (const Subject& subject : subjects()) {
    const std::unique_ptr<Ops> ops = subject.make();
    const Arrays in = {Array(2, 4), Array(5, 4), Array(2, 3), Array(5, 3)};
    Buffers b = buffers_for(*ops, in);
    b.set(in);
    const Integers targets(*ops, {0, 5});
    EXPECT_EQ(message_of([&] {
                b.run(*ops, targets.data(), {0, 1, 1});
              }),
              "distillation: the temperature is 0, but it must be above 0");
    EXPECT_EQ(message_of(
                  [&] {
                    b.run(*ops, targets.data(), kParams);
                    ops->synchronize();
                  },
                  ErrorCode::TOKEN_OUT_OF_RANGE),
              "cross_entropy: target 5 of row 1 is outside the vocabulary of 5 (-1 means: ignore this row)");
    Buffer other(*ops, subject.compute, 6, 3, "teacher_weight");
    EXPECT_EQ(message_of([&] {
                ops->distillation(b.x.tensor(), b.weight.tensor(), b.teacher_x.tensor(), other.tensor(), targets.data(),
                                  kParams, b.losses.tensor(), b.divergences.tensor(), b.d_x.tensor(), {});
              }),
              "distillation: teacher_weight is 6 x 3, but 5 x 3 is needed");
  }
}

}  // namespace
}  // namespace mor::test
