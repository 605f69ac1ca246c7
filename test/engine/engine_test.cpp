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

TEST_P(EngineCase, PrefillAndDecodeMatchFullForward) {
  std::vector<Wanted> wanted = mixed_requests(model.config(), 6, 13, 11);
  if (fixture.has_scalar("router_threshold"))
    for (Wanted& w : wanted) w.params.router_threshold = fixture.scalar("router_threshold");

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

INSTANTIATE_TEST_SUITE_P(All, EngineCase, testing::ValuesIn(Fixture::names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace mor::test
