// Equalities that need no recorded numbers: a batch gives what its sequences give alone, and routing that skips nothing
// gives plain recursion.
#include "device/device.h"
#include "test/model/support.h"

namespace mor::test {
namespace {

ModelConfig recurring(RouterType type, KvCachePolicy kv) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = 8;
  c.num_recursions = 3;
  c.kv_cache = kv;
  c.router.type = type;
  if (type == RouterType::token_choice) c.router.activation = Activation::sigmoid;
  return c;
}

std::vector<ModelConfig> every_kind() {
  std::vector<ModelConfig> list = {tiny_config()};
  for (const KvCachePolicy kv : {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid})
    for (const RouterType type : {RouterType::none, RouterType::expert_choice, RouterType::token_choice})
      if (kv != KvCachePolicy::hybrid || type == RouterType::expert_choice) list.push_back(recurring(type, kv));
  return list;
}

FullLogits run(const Model& model, const std::vector<int32_t>& rows, int32_t sequences, Routing routing) {
  Arena arena(model.ops());
  DeviceBatch batch(model.ops(), rows, sequences);
  PassOptions options;
  options.routing = routing;
  return full_logits(model, arena, batch.get(), options);
}

TEST(Equalities, ABatchIsItsSequencesBitForBitInFloat32) {
  constexpr int32_t kSequences = 3, kRow = 15;
  for (const ModelConfig& config : every_kind())
    for (const Routing routing : {Routing::topk, Routing::threshold}) {
      Model model(config, make_ops("cpu", DType::float32, 2));
      model.init(3);
      const std::vector<int32_t> tokens = random_tokens(kSequences * kRow, config.vocab_size, 8);
      const FullLogits together = run(model, tokens, kSequences, routing);
      for (int32_t s = 0; s < kSequences; ++s) {
        const FullLogits alone = run(model, {tokens.begin() + s * kRow, tokens.begin() + (s + 1) * kRow}, 1, routing);
        const size_t logits = alone.logits.size(), depths = alone.depths.size(), at = static_cast<size_t>(s);
        EXPECT_EQ(alone.logits, std::vector<float>(together.logits.begin() + static_cast<long>(at * logits),
                                                   together.logits.begin() + static_cast<long>((at + 1) * logits)));
        EXPECT_EQ(alone.depths, std::vector<uint8_t>(together.depths.begin() + static_cast<long>(at * depths),
                                                     together.depths.begin() + static_cast<long>((at + 1) * depths)));
      }
    }
}

/// Whether the counts of the geometry that attention gets are those of its arrays.
class CheckedAttention final : public RefOps<double> {
 public:
  int32_t narrowed = 0;  ///< calls in which no sequence has all of its rows

  explicit CheckedAttention(KvCachePolicy kv_cache) : kv_cache_(kv_cache) {}
  void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Rows& rows, const Tensor& out,
                         const Tensor& lse) override {
    int32_t max_rows = 0, max_keys = 0;
    for (int32_t s = 0; s < rows.key_lists; ++s) max_rows = std::max(max_rows, rows.start[s + 1] - rows.start[s]);
    for (int32_t i = 0; i < rows.count; ++i) max_keys = std::max(max_keys, rows.visible[i]);
    EXPECT_EQ(rows.max_rows, max_rows);
    // A row that sees the keys of recursion 1 may see fewer of them than the last row there.
    if (kv_cache_ == KvCachePolicy::recursion_wise)
      EXPECT_EQ(rows.max_keys, max_keys);
    else
      EXPECT_GE(rows.max_keys, max_keys);
    narrowed += max_rows < kLength ? 1 : 0;
    RefOps<double>::attention_forward(q, k, v, rows, out, lse);
  }
  static constexpr int32_t kLength = 12;

 private:
  const KvCachePolicy kv_cache_;
};

TEST(Equalities, AttentionGetsTheMostRowsAndKeysThatASequenceHas) {
  for (const ModelConfig& config : every_kind())
    for (const Routing routing : {Routing::topk, Routing::threshold}) {
      auto ops = std::make_unique<CheckedAttention>(config.kv_cache);
      const CheckedAttention& checked = *ops;
      Model model(config, std::move(ops));
      model.init(3);
      run(model, random_tokens(3 * (CheckedAttention::kLength + 1), config.vocab_size, 8), 3, routing);
      EXPECT_EQ(checked.narrowed > 0, config.router.type != RouterType::none);
    }
}

/// The block applied once to every row, without a router.
std::vector<double> block(const Model& model, Arena& arena, const ActiveRows& all, const Tensor& x) {
  Pass pass(model, {model.ops(), arena, arena}, nullptr, {}, 0);
  SharedKeys none;
  LayerRun run;
  run.layers = block_layers_at(pass, 1, none);
  Rows rows = all.rows;
  layers_forward(pass, rows, x, run);
  return read_master(model.ops(), run.out);
}

/// Routers whose weights are zero score 0, so with alpha 2 every sigmoid gate is exactly 1.
void silence_routers(Model& model) {
  for (size_t i = 0; i < model.parameters().list().size(); ++i) {
    const Parameter& p = model.parameters().list()[i];
    if (p.name.find("router") == std::string::npos) continue;
    const std::vector<float> zeros(static_cast<size_t>(p.count()), 0.0f);
    model.set(i, zeros.data());
  }
}

/// Random hidden states of a batch, and the output of the body for them.
struct BodyRun {
  Model model;
  Arena arena;
  ActiveRows all;
  Tensor x;
  explicit BodyRun(const ModelConfig& config) : model(config, std::make_unique<RefOps<double>>()), arena(model.ops()) {
    model.init(5);
    silence_routers(model);
    all = all_rows(model.context(arena), 2, 6);
    x = arena.tensor(DType::float64, 12, config.hidden_size, "x");
    std::mt19937 generator(4);
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < x.count(); ++i) x.as<double>()[i] = normal(generator);
  }
  std::vector<double> body() {
    Pass pass(model, {model.ops(), arena, arena}, nullptr, {}, 0);
    BodyActivations kept;
    return read_master(model.ops(), body_forward(pass, all, x, kept));
  }
};

TEST(Equalities, ExpertChoiceWithCapacityOneAndGateOneIsPlainResidualRecursion) {
  ModelConfig config = recurring(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  config.router.capacities = {1, 1, 1};
  config.router.alpha = 2;
  BodyRun b(config);
  const std::vector<double> routed = b.body();
  Tensor x = b.x;
  for (int r = 0; r < 3; ++r) {
    const std::vector<double> f = block(b.model, b.arena, b.all, x);
    for (size_t i = 0; i < f.size(); ++i) x.as<double>()[i] += f[i];
  }
  for (size_t i = 0; i < routed.size(); ++i) EXPECT_NEAR(routed[i], x.as<double>()[i], 1e-12);
}

TEST(Equalities, TokenChoiceAtFullDepthAndGateOneIsTheBlockNTimes) {
  ModelConfig config = recurring(RouterType::token_choice, KvCachePolicy::recursion_wise);
  config.router.alpha = 2;
  config.router.loss_free_balancing = true;
  BodyRun b(config);
  const float bias[] = {0, 0, 1};
  upload(b.model.ops(), bias, b.model.balancing_bias());
  const std::vector<double> routed = b.body();
  const std::vector<double> start = read_master(b.model.ops(), b.x);
  for (int r = 0; r < 3; ++r) {
    const std::vector<double> f = block(b.model, b.arena, b.all, b.x);
    std::copy(f.begin(), f.end(), b.x.as<double>());
  }
  for (size_t i = 0; i < routed.size(); ++i) EXPECT_NEAR(routed[i], start[i] + b.x.as<double>()[i], 1e-12);
}

TEST(Equalities, WithoutABlockThatRecursEveryTokenHasDepthN) {
  ModelConfig sequence = tiny_config();
  sequence.num_hidden_layers = 6;
  sequence.num_recursions = 2;
  sequence.sharing = Sharing::sequence;
  for (const ModelConfig& config : {tiny_config(), sequence}) {
    Model model(config, std::make_unique<RefOps<double>>());
    model.init(3);
    const std::vector<int32_t> tokens = random_tokens(26, config.vocab_size, 8);
    const auto n = static_cast<uint8_t>(config.num_recursions);
    EXPECT_EQ(run(model, tokens, 2, Routing::threshold).depths, std::vector<uint8_t>(24, n));
    Arena arena(model.ops());
    DeviceBatch batch(model.ops(), tokens, 2);
    EXPECT_EQ(evaluate(model, arena, batch.get(), {}).statistics.active, std::vector<int32_t>(n, 24));
  }
}

TEST(Equalities, MaxRecursionsStopsTheBodyThere) {
  for (const ModelConfig& config : every_kind()) {
    if (config.body_recursions() == 0) continue;
    Model model(config, std::make_unique<RefOps<double>>());
    model.init(3);
    Arena arena(model.ops());
    DeviceBatch batch(model.ops(), random_tokens(26, config.vocab_size, 8), 2);
    PassOptions options;
    options.max_recursions = 2;
    const std::vector<uint8_t> depths = full_logits(model, arena, batch.get(), options).depths;
    EXPECT_LE(*std::max_element(depths.begin(), depths.end()), 2);
    EXPECT_GE(*std::min_element(depths.begin(), depths.end()), 1);
    const std::vector<int32_t> active = evaluate(model, arena, batch.get(), options).statistics.active;
    ASSERT_EQ(active.size(), 3u);
    EXPECT_EQ(active[2], 0);
  }
}

}  // namespace
}  // namespace mor::test
