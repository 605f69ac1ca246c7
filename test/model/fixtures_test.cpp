// Compares the reference in double and the CPU in float32 with PyTorch, for every model kind, router and KV policy:
// logits, losses, gradients.
#include "device/device.h"
#include "test/model/support.h"

namespace mor::test {
namespace {

/// A device and its tolerance: on the CPU four times the error that PyTorch itself has in float32 (expected.txt).
struct Precision {
  const char* name;
  std::unique_ptr<Ops> (*make)();
  double slack;  ///< times float32_error.*; 0: double precision
};
const Precision kPrecisions[] = {
    {"reference", [] { return std::unique_ptr<Ops>(std::make_unique<RefOps<double>>()); }, 0},
    {"cpu", [] { return make_ops("cpu", DType::float32, 2); }, 4},
};

class FixtureCase : public testing::TestWithParam<std::tuple<std::string, Precision>> {};

/// Values agree to `tolerance`.
void expect_near_all(const std::vector<double>& actual, const std::vector<double>& expected, double tolerance,
                     const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance) << what << "[" << i << "]";
}

double norm_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return std::sqrt(sum);
}

struct Loaded {
  Fixture fixture;
  Precision precision;
  Model model;
  int32_t sequences, length;
  DeviceBatch batch;
  explicit Loaded(const std::tuple<std::string, Precision>& param)
      : fixture(Fixture::load(std::get<0>(param))),
        precision(std::get<1>(param)),
        model(config_of(fixture), precision.make()),
        sequences(static_cast<int32_t>(fixture.tensor("tokens").shape[0])),
        length(static_cast<int32_t>(fixture.tensor("tokens").shape[1]) - 1),
        batch(model.ops(), tokens(), sequences) {
    load_weights(fixture, model);
  }
  std::vector<int32_t> tokens() const {
    const std::vector<double> values = fixture.tensor("tokens").values();
    return {values.begin(), values.end()};
  }
  /// `exact` in double; in float32 what the precision allows for `kind`, and one more rounding.
  double tolerance(const char* kind, double exact) const {
    if (precision.slack == 0) return exact;
    return precision.slack * fixture.scalar(std::string("float32_error.") + kind) + 1e-6;
  }
};

TEST_P(FixtureCase, LogitsAndDepths) {
  Loaded l(GetParam());
  Arena arena(l.model.ops());
  for (const bool topk : {true, false}) {
    SCOPED_TRACE(topk ? "topk" : "threshold");
    PassOptions options;
    options.routing = topk ? Routing::topk : Routing::threshold;
    if (l.fixture.has_scalar("router_threshold")) options.router_threshold = l.fixture.scalar("router_threshold");
    const auto [logits, depths] = full_logits(l.model, arena, l.batch.get(), options);
    const std::string suffix = topk ? "topk" : "threshold";
    expect_near_all({logits.begin(), logits.end()}, l.fixture.tensor("logits_" + suffix).values(),
                    l.tolerance("logits", 2e-6), "logits_" + suffix);
    InferenceOutputs outputs;
    std::vector<float> logprobs(depths.size());
    std::vector<uint8_t> same_depths(depths.size());
    outputs.depths = same_depths.data();
    outputs.target_rows.resize(depths.size());
    std::iota(outputs.target_rows.begin(), outputs.target_rows.end(), 0);
    outputs.targets = read_integers(l.model.ops(), l.batch.get().targets, static_cast<int64_t>(depths.size()));
    outputs.logprobs = logprobs.data();
    inference_pass(l.model, arena, l.batch.get(), options, outputs);
    const double mean = std::accumulate(logprobs.begin(), logprobs.end(), 0.0) / static_cast<double>(depths.size());
    EXPECT_NEAR(-mean, l.fixture.scalar(topk ? "lm_loss" : "lm_loss_threshold"), l.tolerance("loss", 1e-6));
    if (l.model.config().body_recursions() > 0)
      expect_near_all({depths.begin(), depths.end()}, l.fixture.tensor("depths_" + suffix).values(), 0,
                      "depths_" + suffix);
  }
}

TEST_P(FixtureCase, LossesAndGradients) {
  Loaded l(GetParam());
  Arena arena(l.model.ops());
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "kept");
    Gradients gradients(l.model);
    PassOptions options;
    options.recompute = recompute;
    const PassResult r = train(l.model, arena, gradients.views(), l.batch.get(), options);
    EXPECT_NEAR(r.lm_loss, l.fixture.scalar("lm_loss"), l.tolerance("loss", 1e-10));
    EXPECT_NEAR(r.statistics.auxiliary_loss, l.fixture.scalar("auxiliary_loss"), l.tolerance("loss", 1e-10));
    EXPECT_NEAR(r.statistics.z_loss, l.fixture.scalar("z_loss"), l.tolerance("loss", 1e-10));
    EXPECT_NEAR(r.statistics.balancing_loss, l.fixture.scalar("balancing_loss"), l.tolerance("loss", 1e-10));
    EXPECT_NEAR(r.loss(), l.fixture.scalar("loss"), l.tolerance("loss", 1e-10));
    if (l.fixture.has_scalar("max_vio")) {
      EXPECT_NEAR(r.statistics.max_vio, l.fixture.scalar("max_vio"), 1e-12);
    }
    if (l.fixture.has_scalar("load_entropy")) {
      EXPECT_NEAR(r.statistics.load_entropy, l.fixture.scalar("load_entropy"), 1e-12);
    }
    for (const Parameter& p : l.model.parameters().list()) {
      if (!p.trained) continue;
      const std::vector<double> expected = l.fixture.tensor("grad." + p.name).values();
      expect_near_all(read_master(l.model.ops(), p.in_flat(gradients.flat())), expected,
                      l.tolerance("gradient", 3e-7) * norm_of(expected) + 1e-9, p.name);
    }
  }
}

TEST_P(FixtureCase, EvaluationUnderBothRoutings) {
  Loaded l(GetParam());
  Arena arena(l.model.ops());
  PassOptions options;
  EXPECT_NEAR(evaluate(l.model, arena, l.batch.get(), options).lm_loss, l.fixture.scalar("lm_loss"),
              l.tolerance("loss", 1e-10));
  options.routing = Routing::threshold;
  if (l.fixture.has_scalar("router_threshold")) options.router_threshold = l.fixture.scalar("router_threshold");
  EXPECT_NEAR(evaluate(l.model, arena, l.batch.get(), options).lm_loss, l.fixture.scalar("lm_loss_threshold"),
              l.tolerance("loss", 1e-10));
}

INSTANTIATE_TEST_SUITE_P(All, FixtureCase,
                         testing::Combine(testing::ValuesIn(Fixture::names()), testing::ValuesIn(kPrecisions)),
                         [](const auto& info) { return std::get<0>(info.param) + "_" + std::get<1>(info.param).name; });

}  // namespace
}  // namespace mor::test
