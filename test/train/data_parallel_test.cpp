// Tests of ranks that train one model together: N ranks with B rows each are one rank with N B rows, whatever is
// trained and however; and the state of some ranks is that of any other number of ranks.
#include "test/train/data_parallel.h"

#include <cmath>

#include "train/ranks.h"

namespace mor::test {
namespace {

/// Which micro-batches one rank has in place of those of all ranks.
enum class Alone : uint8_t {
  joined,  ///< one for the last micro-batch of every rank, one for those before, and so on: as many as the longest rank
  listed,  ///< those of the first rank, then those of the next
};
Rows rows_of_all(const Plan& plan, const ModelConfig& config, uint32_t step, Alone alone) {
  Rows rows;
  if (alone == Alone::listed) {
    for (size_t rank = 0; rank < plan.micro.size(); ++rank) rows.add_all(plan, config, step, rank);
    return rows;
  }
  for (int32_t left = *std::max_element(plan.micro.begin(), plan.micro.end()); left > 0; --left) {
    rows.shapes.push_back({0, kTokens});
    for (size_t rank = 0; rank < plan.micro.size(); ++rank) {
      if (plan.micro[rank] < left) continue;
      rows.add(plan, config, step, rank, plan.micro[rank] - left);
      rows.shapes.back().sequences += kRows;
    }
  }
  return rows;
}
Trained train_alone(const ModelConfig& config, MakeOps make, const TrainerOptions& options, const Plan& plan,
                    Alone alone, uint32_t steps, Start start = {}) {
  Model model(config, make());
  begin(model, start);
  Trainer trainer(model, options);
  if (start.from != nullptr) restore_state(trainer, start.from->state, start.steps);
  Trained trained;
  for (uint32_t t = start.steps; t < start.steps + steps; ++t)
    trained.steps.push_back(trainer.step(rows_of_all(plan, config, t, alone).view()));
  EXPECT_EQ(trained.steps.back().communication_seconds, -1);
  EXPECT_EQ(trained.steps.back().slowest_rank, -1);
  add_weights(model, trained.weights);
  add_state(trainer, trained.state);
  return trained;
}

void expect_near(const Tensors& a, const Tensors& b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, values] : a) {
    const std::vector<double>& others = b.at(name);
    ASSERT_EQ(values.size(), others.size()) << name;
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], others[i], tolerance) << name << "[" << i << "]";
  }
}

/// counted: whether the dead tokens can be compared, which are counted in each micro-batch by itself.
void expect_near(const Trained& a, const Trained& b, double tolerance, double of_weights, bool counted) {
  for (size_t t = 0; t < a.steps.size(); ++t) {
    SCOPED_TRACE(concat("step ", t));
    const StepResult &x = a.steps[t], &y = b.steps[t];
    EXPECT_NEAR(x.loss, y.loss, tolerance);
    EXPECT_NEAR(x.lm_loss, y.lm_loss, tolerance);
    EXPECT_NEAR(x.distillation_loss, y.distillation_loss, tolerance);
    EXPECT_NEAR(x.auxiliary_loss, y.auxiliary_loss, tolerance);
    EXPECT_NEAR(x.z_loss, y.z_loss, tolerance);
    EXPECT_NEAR(x.balancing_loss, y.balancing_loss, tolerance);
    EXPECT_NEAR(x.gradient_norm, y.gradient_norm, tolerance * (1 + x.gradient_norm));
    EXPECT_EQ(x.learning_rate, y.learning_rate);
    EXPECT_EQ(x.tokens, y.tokens);
    EXPECT_EQ(x.targets, y.targets);
    EXPECT_EQ(x.flops, y.flops);
    EXPECT_EQ(x.vanilla_flops, y.vanilla_flops);
    EXPECT_EQ(x.depth_histogram, y.depth_histogram);
    EXPECT_EQ(x.selected_shares, y.selected_shares);
    ASSERT_EQ(x.thresholds.size(), y.thresholds.size());
    for (size_t r = 0; r < x.thresholds.size(); ++r) EXPECT_NEAR(x.thresholds[r], y.thresholds[r], tolerance);
    EXPECT_NEAR(x.routing_accuracy, y.routing_accuracy, tolerance);
    if (counted) {
      EXPECT_NEAR(x.dead_token_ratio, y.dead_token_ratio, tolerance);
    }
    EXPECT_NEAR(x.max_vio, y.max_vio, tolerance);
    EXPECT_NEAR(x.load_entropy, y.load_entropy, tolerance);
  }
  expect_near(a.weights, b.weights, of_weights);
  expect_near(a.state, b.state, of_weights);
}

struct Case {
  std::string name;
  ModelConfig config;
  Alone alone = Alone::joined;
  TrainerOptions options{};
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const char* name, const ModelConfig& config, Alone alone = Alone::joined) -> Case& {
    return all.emplace_back(Case{name, config, alone});
  };
  ModelConfig vanilla = tiny_config();
  add("vanilla", vanilla);
  vanilla.tie_word_embeddings = false;
  add("untied", vanilla);
  ModelConfig sequence = minimal(RouterType::none);
  sequence.sharing = Sharing::middle_sequence;
  add("sequence", sequence);
  add("recursive", minimal(RouterType::none, KvCachePolicy::shared));
  ModelConfig topk = minimal(RouterType::expert_choice, KvCachePolicy::hybrid);
  topk.router.capacity_warmup_steps = 2;
  add("topk", topk);
  topk.kv_cache = KvCachePolicy::recursion_wise;
  topk.router.auxiliary_router = true;
  topk.tie_word_embeddings = false;
  add("auxiliary router", topk).options = with_groups();
  ModelConfig threshold = minimal(RouterType::expert_choice);
  threshold.router.selects_by_threshold = true;
  threshold.router.z_loss_coefficient = 0.01;
  add("threshold", threshold, Alone::listed);
  ModelConfig choice = minimal(RouterType::token_choice);
  add("token choice", choice);
  choice.router.loss_free_balancing = true;
  choice.kv_cache = KvCachePolicy::shared;
  Case& depth = add("loss-free", choice);
  depth.options.depth.dropout = 0.5;
  return all;
}

std::vector<Plan> plans() {
  return {{{1, 1}}, {{2, 2, 2}, true}, {{1, 1, 1, 1}, true, true}};
}

TEST(DataParallel, RanksAreOneRankWithAllRows) {
  size_t next = 0;
  for (const Case& c : cases())
    for (int i = 0; i < 2; ++i) {  // of three plans, so that the neighbouring cases have the third
      const Plan plan = plans()[next++ % 3];
      SCOPED_TRACE(concat(c.name, " on ", plan.micro.size()));
      expect_near(train_ranks(c.config, reference, c.options, plan, 2),
                  train_alone(c.config, reference, c.options, plan, c.alone, 2), 1e-10, 1e-9, c.alone == Alone::listed);
    }
}

/// The rows that rounding separates differ in float32: Adam's first steps are as long for a small gradient as for a
/// large one.
TEST(DataParallel, RanksAreOneRankWithAllRowsInFloat32) {
  for (const Case& c : cases()) {
    const Plan plan{{1, 1, 1}, true};
    SCOPED_TRACE(c.name);
    expect_near(train_ranks(c.config, cpu_float32, c.options, plan, 3),
                train_alone(c.config, cpu_float32, c.options, plan, c.alone, 3), 1e-5, 1e-4, c.alone == Alone::listed);
  }
}

/// Ranks with fewer micro-batches go with the last ones of the others.
TEST(DataParallel, RanksMayHaveDifferentNumbersOfMicroBatches) {
  const Plan plan{{1, 3, 2}};
  for (const bool loss_free : {false, true}) {
    ModelConfig config = minimal(RouterType::token_choice);
    config.router.loss_free_balancing = loss_free;
    expect_near(train_ranks(config, reference, {}, plan, 3), train_alone(config, reference, {}, plan, Alone::joined, 3),
                1e-10, 1e-9, false);
  }
}

TEST(DataParallel, ATeacherTeachesAllRanks) {
  ModelConfig config = minimal(RouterType::expert_choice);
  ModelConfig of_teacher = tiny_config();
  Model teacher(of_teacher, reference());
  teacher.init(2);
  TrainerOptions options;
  options.distillation.teacher = &teacher;
  options.depth = {1, 3};
  const Plan plan{{1, 1}, true};
  expect_near(train_ranks(config, reference, options, plan, 3),
              train_alone(config, reference, options, plan, Alone::joined, 3), 1e-10, 1e-9, false);
}

TEST(DataParallel, ARankWithACommunicatorForItselfIsARankAlone) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const Case& c : cases()) {
      SCOPED_TRACE(c.name);
      const Plan plan{{2}, true};
      expect_equal(train_ranks(c.config, make, c.options, plan, 2),
                   train_alone(c.config, make, c.options, plan, Alone::listed, 2));
    }
}

TEST(DataParallel, TwoRunsAreOneBitForBit) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const DType wire : {DType::float32, DType::bfloat16}) {
      TrainerOptions options = with_groups();
      options.gradient_wire = wire;
      const ModelConfig config = minimal(RouterType::expert_choice);
      const Plan plan{{2, 1, 1}, true};
      expect_equal(train_ranks(config, make, options, plan, 2), train_ranks(config, make, options, plan, 2));
    }
}

/// Weights round after every step, so that only the first gradients are equal but for the order of their sums.
TEST(DataParallel, RanksInBfloat16LearnWhatOneRankLearns) {
  const ModelConfig config = minimal(RouterType::token_choice);
  const Plan plan{{1, 1, 1}, true};
  const Trained ranks = train_ranks(config, cpu_bfloat16, {}, plan, 3),
                alone = train_alone(config, cpu_bfloat16, {}, plan, Alone::joined, 3);
  EXPECT_NEAR(ranks.steps[0].loss, alone.steps[0].loss, 2e-3);
  EXPECT_NEAR(ranks.steps[0].gradient_norm, alone.steps[0].gradient_norm, 0.01 * alone.steps[0].gradient_norm);
  EXPECT_NEAR(ranks.steps[2].loss, alone.steps[2].loss, 0.02);
}

/// A gradient that travels as bfloat16 is rounded to 8 bits on each rank, and no more.
TEST(DataParallel, GradientsThatTravelAsBfloat16AreRoundedOnce) {
  const ModelConfig config = minimal(RouterType::none);
  const Plan plan{{1, 1, 1}};
  TrainerOptions rounded;
  rounded.gradient_wire = DType::bfloat16;
  const Trained a = train_ranks(config, cpu_float32, rounded, plan, 1),
                b = train_ranks(config, cpu_float32, {}, plan, 1);
  EXPECT_EQ(a.steps[0].loss, b.steps[0].loss);
  EXPECT_NE(a.steps[0].gradient_norm, b.steps[0].gradient_norm);
  EXPECT_NEAR(a.steps[0].gradient_norm, b.steps[0].gradient_norm, b.steps[0].gradient_norm / 256);
  // The first moment is 0.05 of the gradient. Three ranks have parts of it that may cancel.
  double largest = 0;
  for (const auto& [name, values] : b.state)
    if (name.rfind("exp_avg.", 0) == 0)
      for (const double value : values) largest = std::max(largest, std::abs(value));
  for (const auto& [name, values] : b.state)
    if (name.rfind("exp_avg.", 0) == 0) {
      for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(a.state.at(name)[i], values[i], largest / 128) << name;
    }
}

TEST(DataParallel, StateOfTwoRanksGoesOnAtAnyNumber) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const Trained two = train_ranks(c.config, reference, c.options, {{1, 1}}, 2);
    const Trained alone = train_alone(c.config, reference, c.options, {{1, 1, 1}}, c.alone, 1, {&two, 2});
    const Trained three = train_ranks(c.config, reference, c.options, {{1, 1, 1}}, 1, {&two, 2});
    expect_near(three, alone, 1e-10, 1e-9, false);
    const Trained loaded = train_ranks(c.config, reference, c.options, {{1, 1, 1, 1}}, 0, {&two, 2});
    EXPECT_EQ(loaded.state, two.state);
    EXPECT_EQ(loaded.weights, two.weights);
  }
}

TEST(DataParallel, MastersOfRoundedWeightsGoOnAtAnyNumber) {
  const ModelConfig config = minimal(RouterType::expert_choice);
  const Trained two = train_ranks(config, cpu_bfloat16, with_groups(), {{1, 1}}, 2);
  EXPECT_EQ(two.state.count("master.model.embed_tokens.weight"), 1u) << "a frozen tensor keeps its master";
  const Trained again = train_ranks(config, cpu_bfloat16, with_groups(), {{1, 1}}, 2, {&two, 2}),
                whole = train_ranks(config, cpu_bfloat16, with_groups(), {{1, 1}}, 4);
  EXPECT_EQ(again.state, whole.state);
  EXPECT_EQ(again.weights, whole.weights);
  for (const size_t ranks : {1, 3, 4}) {
    const Trained loaded =
        train_ranks(config, cpu_bfloat16, with_groups(), {std::vector<int32_t>(ranks, 1)}, 0, {&two, 2});
    EXPECT_EQ(loaded.state, two.state) << ranks;
  }
}

TEST(DataParallel, EachRankHasItsShareOfTheOptimizersMemory) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16}) {
    const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
    const auto memory_of = [&](Communicator* communicator) {
      Model model(config, make());
      model.init(1);
      TrainerOptions options;
      options.communicator = communicator;
      MemoryUse use = Trainer(model, options).memory();
      use.parameters -= model.memory_bytes();
      return use;
    };
    const MemoryUse alone = memory_of(nullptr);
    for (const int32_t ranks : {2, 3, 4})
      run_ranks(ranks, [&](ThreadCommunicator& communicator) {
        const MemoryUse own = memory_of(&communicator);
        const double most = 1.0 / ranks + 0.05;
        EXPECT_LE(static_cast<double>(own.optimizer), most * static_cast<double>(alone.optimizer));
        EXPECT_LE(static_cast<double>(own.parameters), most * static_cast<double>(alone.parameters));
        EXPECT_LE(static_cast<double>(own.gradients), (1 + most) * static_cast<double>(alone.gradients));
      });
  }
}

/// The sums of the last layers' gradients begin before the backward of the first layer does, and never too early: then
/// the equalities above would not hold, since the communicator reads gradients when it is called.
TEST(DataParallel, GradientsTravelDuringTheBackward) {
  struct Expected {
    ModelConfig config;
    int least;  ///< buckets of 128 elements that are complete by then
  };
  // A layer has 688 elements: 5 buckets at least.
  for (const auto& [config, least] : {Expected{tiny_config(), 10}, Expected{minimal(RouterType::expert_choice), 10},
                                      Expected{minimal(RouterType::token_choice, KvCachePolicy::shared), 10}})
    run_ranks(2, [&, &config = config, least = least](ThreadCommunicator& communicator) {
      TrainerOptions options;
      options.communicator = &communicator;
      options.bucket_size = 128;
      Model model(config, cpu_float32());
      model.init(1);
      Trainer trainer(model, options);
      const Plan plan{{2, 2}};
      std::vector<int> started;  // before each layer of each pass
      const auto step = [&] {
        const Rows rows = rows_of_rank(plan, config, 0, static_cast<size_t>(communicator.rank()));
        trainer.step(rows.view());
      };
      step();  // the memory of later steps is known
      communicator.started = 0;
      model.set_interruption([&] { started.push_back(communicator.started); });
      step();
      EXPECT_GE(started.back(), least);
      EXPECT_LT(started.back(), communicator.started);
      EXPECT_EQ(started[started.size() - static_cast<size_t>(config.num_hidden_layers) - 1], 0)
          << "something was sent before the last backward";
    });
}

TEST(Ranks, GatherTexts) {
  run_ranks(3, [](ThreadCommunicator& communicator) {
    const std::vector<std::string> texts =
        Ranks(&communicator).gather_bytes(RankCall::texts, [&] { return std::string(communicator.rank(), 'x'); });
    EXPECT_EQ(texts, (std::vector<std::string>{"", "x", "xx"}));
  });
}

}  // namespace
}  // namespace mor::test
