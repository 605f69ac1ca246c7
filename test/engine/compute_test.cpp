// Tests that compute is really saved: the products that the engine executes follow the depths of its tokens, the shared
// policy skips the key and value projections, and the head runs for generated tokens only.
#include "test/engine/support.h"

namespace mor::test {
namespace {

/// Counts the multiplications of every matrix product.
class MultiplicationCounter : public RefOps<float> {
 public:
  void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& residual, const Tensor& y) override {
    multiplications += x.rows() * weight.count();
    RefOps<float>::linear_forward(x, weight, residual, y);
  }
  void qkv_forward(const Tensor& x, const QkvTensors& weights, double epsilon, const int32_t* position,
                   const Tensor& table, const Tensor& q, const Tensor& k, const Tensor& v, const int32_t* slot,
                   const Tensor& projected) override {
    multiplications += x.rows() * weights.weight.count();
    RefOps<float>::qkv_forward(x, weights, epsilon, position, table, q, k, v, slot, projected);
  }
  void swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) override {
    multiplications += x.rows() * weight.count();
    RefOps<float>::swiglu_forward(x, weight, gate_up, out);
  }
  int64_t multiplications = 0;
};

struct Case {
  const char* name;
  KvCachePolicy kv_cache;
  RouterType router;
};
class ComputeCase : public testing::TestWithParam<Case> {};

TEST_P(ComputeCase, FollowsTheDepths) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = 8;
  c.num_recursions = 3;
  c.kv_cache = GetParam().kv_cache;
  set_router(c, GetParam().router);
  Wanted w;
  w.prompt = random_tokens(7, c.vocab_size, 4);
  w.params.max_tokens = 9;
  w.params.temperature = 2;
  for (const int32_t limit : {1, 2, 3}) {
    for (const int32_t chunk : {2, 256}) {
      SCOPED_TRACE(concat("at most ", limit, " recursions, chunks of ", chunk));
      auto counting = std::make_unique<MultiplicationCounter>();
      MultiplicationCounter& ops = *counting;
      Model model(c, std::move(counting));
      model.init(2);
      EngineOptions options;
      options.prefill_chunk = chunk;
      Engine engine(model, options);
      w.params.max_recursions = limit;
      EXPECT_EQ(run_engine(engine, {w}).at(0).tokens.size(), 9u);

      const int64_t tokens = 7 + 9 - 1, d = c.hidden_size, kv = 2 * c.key_value_size() * d;
      const int64_t layer = d * (c.qkv_size() + c.query_size() + 3 * c.intermediate_size);
      int64_t expected = tokens * 2 * layer + 9 * d * c.vocab_size, counted = 0;
      const std::vector<int64_t> histogram = engine.stats().depth_histogram;
      for (int64_t depth = 1; depth <= 3; ++depth) {
        const int64_t n = histogram[static_cast<size_t>(depth) - 1];
        counted += n;
        expected += n * 2 * (depth * layer - (c.kv_cache == KvCachePolicy::shared ? (depth - 1) * kv : 0));
        if (depth > limit) {
          EXPECT_EQ(n, 0);
        }
      }
      EXPECT_EQ(counted, tokens);
      EXPECT_EQ(ops.multiplications, expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ComputeCase,
                         testing::Values(Case{"recursive", KvCachePolicy::recursion_wise, RouterType::none},
                                         Case{"recursive_shared", KvCachePolicy::shared, RouterType::none},
                                         Case{"expert", KvCachePolicy::recursion_wise, RouterType::expert_choice},
                                         Case{"expert_shared", KvCachePolicy::shared, RouterType::expert_choice},
                                         Case{"expert_hybrid", KvCachePolicy::hybrid, RouterType::expert_choice},
                                         Case{"token", KvCachePolicy::recursion_wise, RouterType::token_choice},
                                         Case{"token_shared", KvCachePolicy::shared, RouterType::token_choice}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
