// Tests that the engine works while the device does, between a stage's launch and the wait for its outcome. The device
// here reports its calls: the tests see what the engine has done when it waits, and what happens when a call fails.
#include "test/engine/support.h"

namespace mor::test {
namespace {

enum class Call { product, read, sample };

class WatchedOps : public RefOps<float> {
 public:
  void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) override {
    tell(Call::product);
    RefOps<float>::linear_forward(x, weight, residual, y);
  }
  void copy_to_host(void* host, const void* device, size_t bytes) override {
    tell(Call::read);
    RefOps<float>::copy_to_host(host, device, bytes);
  }
  void sample(const Tensor& logits, const SamplingParams* params, int32_t* token, float* logprob,
              TokenLogprob* top) override {
    tell(Call::sample);
    RefOps<float>::sample(logits, params, token, logprob, top);
  }
  std::function<void(Call)> watch;

 private:
  void tell(Call call) const {
    if (watch) watch(call);
  }
};

class Overlap : public testing::TestWithParam<RouterType> {
 protected:
  Overlap() {
    ModelConfig c = tiny_config();
    c.num_hidden_layers = 5;
    c.num_recursions = 3;
    set_router(c, GetParam());
    auto made = std::make_unique<WatchedOps>();
    ops = made.get();
    model = std::make_unique<Model>(c, std::move(made));
    model->init(3);
  }
  WatchedOps* ops;
  std::unique_ptr<Model> model;
};

TEST_P(Overlap, TokensThatLeaveAreSettledWhileTheDeviceWorks) {
  Engine engine(*model, {});
  Wanted w;
  w.prompt = random_tokens(6, 11, 5);
  w.params.max_tokens = 10;
  int64_t samplings = 0, products = 0;
  ops->watch = [&](Call call) {
    if (call == Call::product) ++products;
    if (call != Call::sample) return;
    EXPECT_GT(products, 0) << "nothing was launched before the wait";
    products = 0;
    const EngineStats stats = engine.stats();
    int64_t settled = 0;
    for (const int64_t tokens : stats.depth_histogram) settled += tokens;
    EXPECT_EQ(stats.tokens_generated, samplings);
    EXPECT_EQ(stats.prompt_tokens, 6);
    EXPECT_EQ(settled, 6 + samplings) << "the tokens on whose successors the device works are settled";
    ++samplings;
  };
  EXPECT_EQ(run_engine(engine, {w}).at(0).tokens.size(), 10u);
  EXPECT_EQ(samplings, 10);
  ops->watch = {};
}

/// If a launch or a collect throws, what was prepared is undone together with all running requests, and waiting
/// requests go on.
TEST_P(Overlap, AnErrorEndsTheRunningRequestsAlone) {
  Wanted w;
  w.prompt = random_tokens(6, 11, 5);
  w.params.max_tokens = 10;
  std::vector<int32_t> expected;
  {
    Engine engine(*model, {});
    expected = run_engine(engine, {w}).at(0).tokens;
  }
  for (int64_t fails = 0; fails < 300; ++fails) {
    SCOPED_TRACE(concat("call ", fails));
    EngineOptions options;
    options.max_batch_size = GetParam() == RouterType::none ? 2 : 1;  // two run, and one waits
    options.block_size = 2;
    Engine engine(*model, options);
    int64_t calls = 0;
    ops->watch = [&](Call) {
      if (calls++ == fails) MOR_FAIL(DEVICE_LOST, "the device is gone");
    };
    std::map<uint64_t, Generated> results;
    try {
      results = run_engine(engine, {w, w, w});
    } catch (const Error& error) {
      FAIL() << error.what();
    }
    ops->watch = {};
    int64_t failed = 0;
    for (const auto& [id, generated] : results) {
      ASSERT_TRUE(generated.finished);
      if (generated.reason == FinishReason::error) {
        EXPECT_NE(generated.message.find("the device is gone"), std::string::npos);
        ++failed;
      } else {
        EXPECT_EQ(generated.tokens, expected);
      }
    }
    EXPECT_LE(failed, 2) << "waiting requests go on";
    EXPECT_EQ(failed > 0, calls > fails);
    const EngineStats stats = engine.stats();
    EXPECT_EQ(stats.kv_blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Overlap,
                         testing::Values(RouterType::none, RouterType::expert_choice, RouterType::token_choice),
                         [](const auto& info) {
                           return info.param == RouterType::none            ? "recursive"
                                  : info.param == RouterType::expert_choice ? "expert"
                                                                            : "token";
                         });

}  // namespace
}  // namespace mor::test
