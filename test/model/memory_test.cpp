// Compares the memory that count_memory reports with the memory that passes take, for every kind of model, with and
// without recomputation, in training and evaluation.
#include "test/model/support.h"

namespace mor::test {
namespace {

struct Kind {
  std::string name;
  ModelConfig config;
};

std::vector<Kind> kinds() {
  std::vector<Kind> list = {{"vanilla", tiny_config()}};
  for (const RouterType type : {RouterType::none, RouterType::expert_choice, RouterType::token_choice})
    for (const KvCachePolicy policy : {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid}) {
      if (policy == KvCachePolicy::hybrid && type != RouterType::expert_choice) continue;
      ModelConfig config = tiny_config();
      config.num_hidden_layers = 5;
      config.num_recursions = 3;
      config.kv_cache = policy;
      config.router.type = type;
      config.router.mlp = policy == KvCachePolicy::shared;
      config.router.auxiliary_router = type == RouterType::expert_choice && policy == KvCachePolicy::hybrid;
      config.validate();
      static const char* const kTypes[] = {"recursive", "expert_choice", "token_choice"};
      list.push_back({concat(kTypes[static_cast<int>(type)], "_", kv_cache_name(policy)), config});
      config.qkv_bias = config.qk_norm = true;
      list.push_back({list.back().name + "_bias_norm", config});
      if (type != RouterType::expert_choice) continue;
      config.router.selects_by_threshold = true;
      config.router.auxiliary_router = false;
      list.push_back({list.back().name + "_by_threshold", config});
    }
  return list;
}

class Memory : public testing::TestWithParam<Kind> {
 protected:
  static constexpr int32_t kSequences = 3, kLength = 15;

  /// Runs `work` in arenas of exactly the sizes that count_memory reports.
  template <class Work>
  void expect_counted(const Model& model, bool exact, const Work& work) {
    const PassMemory need = count_memory(model.ops(), work);
    Arena activations(model.ops());
    Readback readback(model.ops());
    activations.reserve(need.activations);
    readback.arena().reserve(need.report);
    work(Workspace{model.ops(), activations, readback.arena()});
    EXPECT_EQ(activations.capacity(), need.activations);
    EXPECT_LE(activations.peak(), need.activations);
    EXPECT_GT(activations.peak(), need.activations / 4);
    EXPECT_LE(readback.arena().peak(), need.report);
    if (exact) {
      EXPECT_EQ(activations.peak(), need.activations);
      EXPECT_EQ(readback.arena().peak(), need.report);
    }
  }
};

TEST_P(Memory, OfPassesIsWhatWasCounted) {
  Model model(GetParam().config, std::make_unique<RefOps<float>>());
  model.init(3);
  const DeviceBatch batch(model.ops(), random_tokens(kSequences * (kLength + 1), 11, 1), kSequences);
  const Gradients gradients(model);
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "recompute" : "keep");
    PassOptions options;
    options.recompute = recompute;
    if (model.config().router.selects_by_threshold) options.routing = Routing::threshold;
    expect_counted(model, !waits_for_counts(model.config()),
                   [&](const Workspace& w) { training_pass(model, w, gradients.views(), batch.get(), options); });
  }
  for (const Routing routing : {Routing::topk, Routing::threshold}) {
    SCOPED_TRACE(routing == Routing::topk ? "topk" : "threshold");
    PassOptions options;
    options.routing = routing;
    const RouterType type = model.config().router.type;
    const bool exact = type == RouterType::none || (type == RouterType::expert_choice && routing == Routing::topk);
    expect_counted(model, exact, [&](const Workspace& w) { evaluation_pass(model, w, batch.get(), options); });
  }
}

/// A device whose feed-forward fails.
class FailingOps final : public RefOps<float> {
 public:
  void swiglu_forward(const Tensor& x, const Tensor& weight, const Tensor& gate_up, const Tensor& out) override {
    MOR_CHECK(!fails, DEVICE_LOST, "a failure for a test's sake");
    RefOps<float>::swiglu_forward(x, weight, gate_up, out);
  }
  void swiglu_backward(const Tensor&, const Tensor&, const Tensor&) override {
    MOR_FAIL(DEVICE_LOST, "a failure for a test's sake");
  }
  bool fails = false;
};

TEST(Memory, ALayerThatFailsFreesItsScratch) {
  auto made = std::make_unique<FailingOps>();
  FailingOps& ops = *made;
  const Model model(tiny_config(), std::move(made));
  Arena arena(ops);
  const ActiveRows all = all_rows(model.context(arena), 1, 5);
  const Tensor x = arena.tensor(ops.compute_dtype(), 5, model.config().hidden_size, "x");
  const Tensor y = arena.tensor(ops.compute_dtype(), 5, model.config().hidden_size, "y");
  zero(ops, x);
  LayerActivations kept;
  layer_forward(model.context(arena), model.tensors().layers[0], all.rows, {}, x, {}, y, &kept);
  const Gradients gradients(model);
  const size_t before = arena.used();
  EXPECT_THROW(layer_backward(model.context(arena), model.tensors().layers[0], gradients.views().layers[0], all.rows,
                              kept, {}, y),
               Error);
  EXPECT_EQ(arena.used(), before);
  ops.fails = true;
  EXPECT_THROW(layer_forward(model.context(arena), model.tensors().layers[0], all.rows, {}, x, {}, x, nullptr), Error);
  EXPECT_EQ(arena.used(), before);
}

INSTANTIATE_TEST_SUITE_P(All, Memory, testing::ValuesIn(kinds()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
