// The scalar reference device against PyTorch, for every model kind, router and KV policy: logits, losses, gradients.
// Must not know how either computes.
#include "test/model/support.h"

namespace mor::test {
namespace {

class FixtureCase : public testing::TestWithParam<std::string> {};

/// Values agree to `tolerance` of the largest.
void expect_near_all(const std::vector<double>& actual, const std::vector<double>& expected, double tolerance,
                     const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = 1e-12;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << what << "[" << i << "]";
}

struct Loaded {
  Fixture fixture;
  Model model;
  int32_t sequences, length;
  DeviceBatch batch;
  explicit Loaded(const std::string& name)
      : fixture(Fixture::load(name)),
        model(config_of(fixture), std::make_unique<RefOps<double>>()),
        sequences(static_cast<int32_t>(fixture.tensor("tokens").shape[0])),
        length(static_cast<int32_t>(fixture.tensor("tokens").shape[1]) - 1),
        batch(model.ops(), tokens(), sequences) {
    load_weights(fixture, model);
  }
  std::vector<int32_t> tokens() const {
    const std::vector<double> values = fixture.tensor("tokens").values();
    return {values.begin(), values.end()};
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
    const size_t rows = static_cast<size_t>(l.sequences * l.length);
    std::vector<float> logits(rows * static_cast<size_t>(l.model.config().vocab_size));
    std::vector<uint8_t> depths(rows);
    logits_pass(l.model, arena, l.batch.get(), options, logits.data(), depths.data());
    const std::string suffix = topk ? "topk" : "threshold";
    expect_near_all({logits.begin(), logits.end()}, l.fixture.tensor("logits_" + suffix).values(), 1e-7,
                    "logits_" + suffix);
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
    const PassResult r = training_pass(l.model, arena, gradients.views(), l.batch.get(), options);
    EXPECT_NEAR(r.lm_loss, l.fixture.scalar("lm_loss"), 1e-10);
    EXPECT_NEAR(r.statistics.auxiliary_loss, l.fixture.scalar("auxiliary_loss"), 1e-10);
    EXPECT_NEAR(r.statistics.z_loss, l.fixture.scalar("z_loss"), 1e-10);
    EXPECT_NEAR(r.statistics.balancing_loss, l.fixture.scalar("balancing_loss"), 1e-10);
    EXPECT_NEAR(r.loss(), l.fixture.scalar("loss"), 1e-10);
    if (l.fixture.has_scalar("max_vio")) {
      EXPECT_NEAR(r.statistics.max_vio, l.fixture.scalar("max_vio"), 1e-12);
    }
    if (l.fixture.has_scalar("load_entropy")) {
      EXPECT_NEAR(r.statistics.load_entropy, l.fixture.scalar("load_entropy"), 1e-12);
    }
    for (const Parameter& p : l.model.parameters().list()) {
      const Tensor gradient = make_tensor(static_cast<double*>(gradients.flat().data) + p.offset, DType::float64,
                                          p.rows, p.columns, p.name.c_str());
      expect_near_all(read_master(l.model.ops(), gradient), l.fixture.tensor("grad." + p.name).values(), 3e-7, p.name);
    }
  }
}

TEST_P(FixtureCase, EvaluationUnderBothRoutings) {
  Loaded l(GetParam());
  Arena arena(l.model.ops());
  PassOptions options;
  EXPECT_NEAR(evaluation_pass(l.model, arena, l.batch.get(), options).lm_loss, l.fixture.scalar("lm_loss"), 1e-10);
  options.routing = Routing::threshold;
  if (l.fixture.has_scalar("router_threshold")) options.router_threshold = l.fixture.scalar("router_threshold");
  EXPECT_NEAR(evaluation_pass(l.model, arena, l.batch.get(), options).lm_loss, l.fixture.scalar("lm_loss_threshold"),
              1e-10);
}

INSTANTIATE_TEST_SUITE_P(All, FixtureCase, testing::ValuesIn(Fixture::names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mor::test
