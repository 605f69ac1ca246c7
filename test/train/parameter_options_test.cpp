// Tests of options for single parameters: what is frozen stays as it is and does not count in the norm, and rates and
// weight decays are those of a trainer that has them for all.
#include "test/train/support.h"

namespace mor::test {
namespace {

/// The weights of a model by name, as bytes.
std::map<std::string, std::vector<uint8_t>> weights_of(const Model& model) {
  std::map<std::string, std::vector<uint8_t>> all;
  for (const NamedTensor& t : model.checkpoint_tensors()) all[t.name] = bytes_of(model.ops(), t.tensor);
  return all;
}

/// The weights after three steps from one initialisation, and the gradient norm of the first.
struct Trained {
  std::map<std::string, std::vector<uint8_t>> weights;
  double norm;
};
Trained trained(const ModelConfig& config, MakeOps make, const TrainerOptions& options) {
  Model model(config, make());
  model.init(1);
  Trainer trainer(model, options);
  const double norm = trainer.step(batch(config, 0).data(), 1, kSequences, kLength).gradient_norm;
  for (uint32_t t = 1; t < 3; ++t) trainer.step(batch(config, t).data(), 1, kSequences, kLength);
  return {weights_of(model), norm};
}

TEST(ParameterOptions, FrozenParametersStayAndDoNotCountInTheNorm) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const ModelConfig& config : small_models()) {
      Model fresh(config, make());
      fresh.init(1);
      const auto before = weights_of(fresh);
      TrainerOptions none, some, others;
      none.gradient_clip = some.gradient_clip = others.gradient_clip = 0;
      size_t place = 0;
      for (const Parameter& p : fresh.parameters().list()) {
        if (!p.trained) continue;
        ParameterOptions frozen{p.name};
        frozen.frozen = true;
        (place++ % 2 == 0 ? some : others).parameters.push_back(frozen);
      }
      const Trained all = trained(config, make, none), a = trained(config, make, some),
                    b = trained(config, make, others);
      for (const ParameterOptions& frozen : some.parameters) {
        EXPECT_EQ(a.weights.at(frozen.name), before.at(frozen.name)) << frozen.name;
        EXPECT_NE(b.weights.at(frozen.name), before.at(frozen.name)) << frozen.name;
      }
      for (const ParameterOptions& frozen : others.parameters) {
        EXPECT_EQ(b.weights.at(frozen.name), before.at(frozen.name)) << frozen.name;
        EXPECT_NE(a.weights.at(frozen.name), before.at(frozen.name)) << frozen.name;
      }
      EXPECT_NEAR(std::hypot(a.norm, b.norm), all.norm, 1e-6 * all.norm);
    }
}

TEST(ParameterOptions, RatesAndDecaysAreThoseOfATrainerThatHasThemForAll) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  for (const MakeOps make : {cpu_float32, cpu_bfloat16}) {
    Model model(config, make());
    TrainerOptions plain, twice, single;
    twice.learning_rate = 2 * plain.learning_rate;
    twice.weight_decay = 0.5;
    for (const Parameter& p : model.parameters().list()) {
      ParameterOptions own{p.name};
      own.learning_rate_scale = 2;
      if (p.decays) own.weight_decay = 0.5f;
      single.parameters.push_back(own);
    }
    EXPECT_EQ(trained(config, make, single).weights, trained(config, make, twice).weights);
    EXPECT_NE(trained(config, make, plain).weights, trained(config, make, twice).weights);
  }
}

TEST(ParameterOptions, AParameterThatIsNotThereIsNamed) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  Model model(config, cpu_float32());
  TrainerOptions options;
  options.parameters.push_back({"model.layers.99.mlp.up_proj.weight"});
  try {
    Trainer trainer(model, options);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
    EXPECT_STREQ(
        error.what(),
        "there are options for model.layers.99.mlp.up_proj.weight, which is no trained parameter of the model");
  }
}

}  // namespace
}  // namespace mor::test
