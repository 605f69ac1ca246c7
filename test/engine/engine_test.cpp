// Tests of the engine on the scalar reference in double, for every fixture: prefill in chunks and decoding with a cache
// give what a full forward gives for every token. Tests also what the engine promises about requests.
#include "test/engine/support.h"

namespace mor::test {
namespace {

class EngineCase : public testing::TestWithParam<std::string> {
 protected:
  EngineCase() : fixture(Fixture::load(GetParam())), model(config_of(fixture), std::make_unique<RefOps<double>>()) {
    load_weights(fixture, model);
  }
  Fixture fixture;
  Model model;
};

void expect_full_forwards_agree(const Model& model, const std::vector<Wanted>& wanted) {
  struct Setting {
    int32_t chunk, block_size;
    size_t apart;
  };
  for (const Setting setting : {Setting{256, 16, 0}, Setting{3, 2, 1}, Setting{1, 1, 2}, Setting{5, 3, 0}}) {
    SCOPED_TRACE(concat("prefill chunk ", setting.chunk, ", block size ", setting.block_size));
    EngineOptions options;
    options.prefill_chunk = setting.chunk;
    options.block_size = setting.block_size;
    options.max_batch_size = 3;
    Engine engine(model, options);
    const auto results = run_engine(engine, wanted, setting.apart);
    ASSERT_EQ(results.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
      SCOPED_TRACE(concat("request ", i));
      EXPECT_EQ(results.at(i).reason, FinishReason::length) << results.at(i).message;
      EXPECT_EQ(static_cast<int32_t>(results.at(i).tokens.size()), wanted[i].params.max_tokens);
      expect_full_forward_agrees(model, wanted[i], results.at(i), 1e-5);
    }
    EXPECT_EQ(engine.stats().kv_blocks_used, 0);
  }
}

TEST_P(EngineCase, PrefillAndDecodeMatchFullForward) {
  std::vector<Wanted> wanted = mixed_requests(model.config(), 6, 13, 11);
  if (fixture.has_scalar("router_threshold"))
    for (Wanted& w : wanted) w.params.router_threshold = fixture.scalar("router_threshold");
  expect_full_forwards_agree(model, wanted);
}

/// The depths of a model depend on its running thresholds, which a request may shift.
TEST(EngineThresholds, PrefillAndDecodeMatchFullForward) {
  for (const KvCachePolicy kv : {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid}) {
    SCOPED_TRACE(kv_cache_name(kv));
    ModelConfig config = tiny_config();
    config.max_position_embeddings = 64;
    config.num_hidden_layers = 8;
    config.num_recursions = 3;
    config.kv_cache = kv;
    set_router(config, RouterType::expert_choice);
    config.router.capacities = {0.9, 0.6, 0.3};
    config.router.selects_by_threshold = true;
    Model model(config, std::make_unique<RefOps<double>>());
    model.init(3);
    const std::vector<Wanted> wanted = mixed_requests(config, 6, 13, 11);
    std::vector<std::vector<int64_t>> histograms;
    for (const std::vector<double>& thresholds : {std::vector<double>{0, 0, 0}, {-0.5, 0.2, -0.1}}) {
      upload(model.ops(), thresholds.data(), model.thresholds());
      expect_full_forwards_agree(model, wanted);
      Engine engine(model, {});
      run_engine(engine, wanted);
      histograms.push_back(engine.stats().depth_histogram);
    }
    EXPECT_NE(histograms[0], histograms[1]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineCase, testing::ValuesIn(Fixture::names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mor::test
