// Tests the hand-written backward of the whole model by the complex step: for every sharing scheme, router and KV
// policy, and for every tensor, the gradient along a random direction v must be imag(loss(w + ih v)) / h.
#include <algorithm>

#include "test/model/support.h"

namespace mor::test {
namespace {

using Complex = std::complex<double>;
constexpr double kStep = 1e-50;

/// Adds up, in complex numbers, the loss whose gradient the pass asks the ops for.
class ComplexLoss final : public RefOps<Complex> {
 public:
  Complex loss = 0;

  void cross_entropy_backward(const Tensor& x, const Tensor& weight, const int32_t* target, double scale,
                              const Tensor& losses, const Tensor& d_x, const Tensor& d_weight) override {
    RefOps<Complex>::cross_entropy_backward(x, weight, target, scale, losses, d_x, d_weight);
    for (int64_t i = 0; i < losses.rows(); ++i) loss += scale * losses.as<Complex>()[i];
  }
  void expert_choice_loss(const Tensor& scores, const uint8_t* selected, double threshold, double bce_scale,
                          double z_scale, const Tensor& sums, const Tensor& d_scores) override {
    RefOps<Complex>::expert_choice_loss(scores, selected, threshold, bce_scale, z_scale, sums, d_scores);
    loss += bce_scale * sums.as<Complex>()[0] + z_scale * sums.as<Complex>()[1];
  }
  void token_choice_backward(const Tensor& d_gate, const Tensor& logits, const Tensor& probabilities,
                             const int32_t* depth, Activation activation, double alpha, const Tensor& p_scale,
                             double z_scale, const Tensor& d_logits) override {
    RefOps<Complex>::token_choice_backward(d_gate, logits, probabilities, depth, activation, alpha, p_scale, z_scale,
                                           d_logits);
    for (int64_t i = 0; i < logits.rows(); ++i) {
      Complex total = 0;
      for (int64_t j = 0; j < logits.columns(); ++j) {
        loss += p_scale.as<Complex>()[j] * probabilities.as<Complex>()[i * logits.columns() + j];
        total += std::exp(logits.as<Complex>()[i * logits.columns() + j]);
      }
      loss += z_scale * std::log(total) * std::log(total);
    }
  }
};

struct Case {
  std::string name;
  ModelConfig config;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

std::vector<Case> cases() {
  std::vector<Case> list;
  ModelConfig vanilla = tiny_config();
  list.push_back({"vanilla", vanilla});
  vanilla.tie_word_embeddings = false;
  list.push_back({"vanilla_untied", vanilla});
  for (const Sharing sharing : {Sharing::cycle, Sharing::sequence, Sharing::middle_cycle, Sharing::middle_sequence}) {
    ModelConfig c = tiny_config();
    c.num_recursions = 3;
    c.sharing = sharing;
    const bool middle = sharing == Sharing::middle_cycle || sharing == Sharing::middle_sequence;
    c.num_hidden_layers = middle ? 8 : 6;
    list.push_back({std::string("recursive_") + sharing_name(sharing), c});
    if (c.body_recursions() == 0) continue;
    for (const KvCachePolicy kv : {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid}) {
      c.kv_cache = kv;
      const std::string suffix = std::string("_") + sharing_name(sharing) + "_" + kv_cache_name(kv);
      if (kv == KvCachePolicy::shared) {
        ModelConfig recursive = c;
        list.push_back({"recursive" + suffix, recursive});
      }
      for (const bool mlp : {false, true}) {
        ModelConfig expert = c;
        expert.router.type = RouterType::expert_choice;
        expert.router.mlp = mlp;
        expert.router.activation = mlp ? Activation::tanh : Activation::sigmoid;
        expert.router.alpha = 0.7;
        expert.router.auxiliary_loss_coefficient = 0.3;
        expert.router.z_loss_coefficient = 0.1;
        list.push_back({std::string("expert_") + (mlp ? "mlp_tanh" : "linear_sigmoid") + suffix, expert});
        if (kv == KvCachePolicy::hybrid) continue;
        ModelConfig token = c;
        token.router.type = RouterType::token_choice;
        token.router.mlp = mlp;
        token.router.activation = mlp ? Activation::sigmoid : Activation::softmax;
        token.router.alpha = 1;
        token.router.balancing_loss_coefficient = 0.3;
        token.router.z_loss_coefficient = 0.1;
        list.push_back({std::string("token_") + (mlp ? "mlp_sigmoid" : "linear_softmax") + suffix, token});
      }
    }
  }
  ModelConfig auxiliary = tiny_config();
  auxiliary.num_hidden_layers = 8;
  auxiliary.num_recursions = 3;
  auxiliary.router.type = RouterType::expert_choice;
  auxiliary.router.auxiliary_router = true;
  list.push_back({"expert_auxiliary_router", auxiliary});
  const auto gates_update = [&](const std::string& name) {
    Case c = *std::find_if(list.begin(), list.end(), [&](const Case& known) { return known.name == name; });
    c.config.router.gates_update = true;
    c.name += "_gates_update";
    list.push_back(c);
  };
  for (const char* name : {"expert_linear_sigmoid_middle_cycle_recursion_wise", "expert_mlp_tanh_cycle_hybrid",
                           "token_linear_softmax_middle_cycle_recursion_wise", "token_mlp_sigmoid_cycle_shared"})
    gates_update(name);
  const auto by_threshold = [&](const std::string& name) {
    Case c = *std::find_if(list.begin(), list.end(), [&](const Case& known) { return known.name == name; });
    c.config.router.selects_by_threshold = true;
    c.name += "_by_threshold";
    list.push_back(c);
  };
  for (const char* name :
       {"expert_linear_sigmoid_middle_cycle_recursion_wise", "expert_linear_sigmoid_middle_cycle_shared",
        "expert_mlp_tanh_cycle_hybrid", "expert_linear_sigmoid_middle_cycle_recursion_wise_gates_update"})
    by_threshold(name);
  // Layers that are not Llama's.
  const auto variant = [&](const std::string& name, bool bias, bool norm) {
    Case c = *std::find_if(list.begin(), list.end(), [&](const Case& known) { return known.name == name; });
    c.config.qkv_bias = bias;
    c.config.qk_norm = norm;
    c.name += concat(bias ? "_bias" : "", norm ? "_norm" : "");
    list.push_back(c);
  };
  variant("vanilla", true, false);
  variant("vanilla", false, true);
  for (const char* name : {"vanilla", "recursive_cycle_shared", "expert_linear_sigmoid_middle_cycle_recursion_wise",
                           "expert_linear_sigmoid_middle_cycle_shared", "expert_mlp_tanh_cycle_hybrid",
                           "token_linear_softmax_middle_cycle_recursion_wise", "token_mlp_sigmoid_cycle_shared"})
    variant(name, true, true);
  return list;
}

class ComplexStep : public testing::TestWithParam<Case> {};

TEST_P(ComplexStep, GradientAlongARandomDirectionOfEveryTensor) {
  const ModelConfig& config = GetParam().config;
  constexpr int32_t kSequences = 2, kLength = 7;
  const std::vector<int32_t> tokens = random_tokens(kSequences * (kLength + 1), config.vocab_size, 5);
  PassOptions options;
  if (config.router.selects_by_threshold) options.routing = Routing::threshold;

  Model exact(config, std::make_unique<RefOps<double>>());
  init_with_biases(exact, 7);
  DeviceBatch exact_batch(exact.ops(), tokens, kSequences);
  Arena exact_arena(exact.ops());
  Gradients gradients(exact);
  train(exact, exact_arena, gradients.views(), exact_batch.get(), options);

  auto owned = std::make_unique<ComplexLoss>();
  ComplexLoss& ops = *owned;
  Model model(config, std::move(owned));
  init_with_biases(model, 7);
  DeviceBatch batch(ops, tokens, kSequences);
  Arena arena(ops);
  Gradients unused(model);
  std::mt19937 generator(3);
  std::normal_distribution<double> normal;
  for (const Parameter& p : model.parameters().list()) {
    if (!p.trained) continue;
    // An auxiliary router's inputs are detached: its loss has a gradient towards its own weights alone.
    if (config.router.auxiliary_router && p.name.find("auxiliary") == std::string::npos) continue;
    Complex* weights = p.in_weights(model.weights()).as<Complex>();
    const double* gradient = p.in_flat(gradients.flat()).as<double>();
    double expected = 0, scale = 1e-12;
    for (int64_t i = 0; i < p.count(); ++i) {
      const double direction = normal(generator);
      weights[i] += Complex(0, kStep * direction);
      expected += gradient[i] * direction;
      scale += std::abs(gradient[i] * direction);
    }
    ops.loss = 0;
    train(model, arena, unused.views(), batch.get(), options);
    EXPECT_NEAR(ops.loss.imag() / kStep, expected, 1e-12 * scale) << p.name;
    for (int64_t i = 0; i < p.count(); ++i) weights[i] = weights[i].real();
  }
}

INSTANTIATE_TEST_SUITE_P(All, ComplexStep, testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mor::test
