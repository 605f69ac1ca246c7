// Tests of training that selects by running thresholds: what it selects, that no later token decides, how the
// thresholds move, and that evaluation and generation with them are what training is.
#include <algorithm>
#include <cmath>

#include "model/routing.h"
#include "test/train/support.h"

namespace mor::test {
namespace {

ModelConfig by_threshold(KvCachePolicy kv, double momentum = 0.9) {
  ModelConfig config = small_mor(RouterType::expert_choice, kv);
  config.router.selects_by_threshold = true;
  config.router.threshold_momentum = momentum;
  return config;
}

constexpr KvCachePolicy kPolicies[] = {KvCachePolicy::recursion_wise, KvCachePolicy::shared, KvCachePolicy::hybrid};

std::vector<double> thresholds_of(const Model& model) {
  return read_master(model.ops(), model.thresholds());
}

void set_thresholds(Model& model, const std::vector<double>& values) {
  upload(model.ops(), values.data(), model.thresholds());
  model.weights_changed();
}

/// The thresholds with which the rows select exactly as many tokens as the capacities say. Steps without momentum and
/// with a rate of 0 find them one recursion after the other, as the scores of a recursion depend on those before it.
std::vector<double> exact_thresholds(ModelConfig config, MakeOps make, const TokenRows& rows) {
  config.router.threshold_momentum = 0;
  Model model(config, make());
  model.init(1);
  TrainerOptions still;
  still.learning_rate = 0;
  Trainer trainer(model, still);
  for (int32_t r = 0; r < config.num_recursions; ++r) trainer.step(rows);
  return thresholds_of(model);
}

std::vector<std::vector<uint8_t>> without_thresholds(const Trainer& trainer) {
  std::vector<std::vector<uint8_t>> all = everything(trainer);
  const std::vector<Parameter>& list = trainer.model().parameters().list();
  for (size_t i = list.size(); i-- > 0;)
    if (list[i].name == "model.router.thresholds") all.erase(all.begin() + static_cast<int64_t>(i));
  return all;
}

/// A threshold that is the k-th largest score of the one sequence selects what top-k selects.
TEST(ThresholdSelection, AtTheKthScoreOfASequenceAStepIsThatOfTopK) {
  for (const MakeOps make : {reference, cpu_float32, cpu_bfloat16})
    for (const KvCachePolicy kv : kPolicies)
      for (const std::vector<double>& capacities : {std::vector<double>{}, {0.9, 0.5, 0.2}}) {
        ModelConfig threshold = by_threshold(kv);
        threshold.router.capacities = capacities;
        ModelConfig topk = threshold;
        topk.router.selects_by_threshold = false;
        const std::vector<int32_t> tokens = random_tokens(kLength + 1, topk.vocab_size, 5);
        const TokenRows rows{tokens.data(), nullptr, {{1, kLength}}};
        Model a(topk, make()), b(threshold, make());
        a.init(1);
        b.init(1);
        set_thresholds(b, exact_thresholds(threshold, make, rows));
        Trainer x(a, {}), y(b, {});
        const StepResult first = x.step(rows), second = y.step(rows);
        EXPECT_EQ(first.loss, second.loss);
        EXPECT_EQ(first.auxiliary_loss, second.auxiliary_loss);
        EXPECT_EQ(first.gradient_norm, second.gradient_norm);
        EXPECT_EQ(first.depth_histogram, second.depth_histogram);
        EXPECT_EQ(first.selected_shares, second.selected_shares);
        EXPECT_EQ(first.flops, second.flops);
        EXPECT_EQ(everything(x), without_thresholds(y));
        EXPECT_EQ(first.dead_token_ratio, second.dead_token_ratio);
      }
}

/// Over all micro-batches, whose rows have several lengths; and the reference device and the CPU find the same.
TEST(ThresholdSelection, WhatIsMeasuredIsTheThresholdOfTheCapacity) {
  for (const KvCachePolicy kv : kPolicies) {
    const ModelConfig config = by_threshold(kv);
    const std::vector<int32_t> tokens = random_tokens(3 * 21 + 2 * 8 + 14, config.vocab_size, 6);
    const TokenRows rows{tokens.data(), nullptr, {{2, 20}, {2, 7}, {1, 13}, {1, 20}}};
    std::vector<std::vector<double>> found;
    for (const MakeOps make : {reference, cpu_float32}) {
      found.push_back(exact_thresholds(config, make, rows));
      Model model(config, make());
      model.init(1);
      set_thresholds(model, found.back());
      const StepResult result = Trainer(model, {}).step(rows);
      // 3 (20 - 13) + 2 (7 - 4) + (13 - 8), 3 (13 - 6) + 2 (4 - 2) + (8 - 4), 3 * 6 + 2 * 2 + 4
      EXPECT_EQ(result.depth_histogram, (std::vector<int64_t>{32, 29, 26}));
      const double shares[] = {1, 55.0 / 87, 26.0 / 87};
      for (size_t r = 0; r < 3; ++r) EXPECT_DOUBLE_EQ(result.selected_shares.at(r), shares[r]);
      EXPECT_EQ(result.thresholds, found.back());
    }
    EXPECT_EQ(found[0][0], 0);  // every token runs recursion 1
    for (size_t r = 0; r < 3; ++r) EXPECT_NEAR(found[0][r], found[1][r], 1e-5);
  }
}

TEST(ThresholdSelection, ThresholdsAreMovingAveragesThatBeginWithTheFirst) {
  std::vector<std::vector<double>> measured;  // by a model of the same weights without momentum
  TrainerOptions still;
  still.learning_rate = 0;
  for (const double momentum : {0.0, 0.75}) {
    const ModelConfig config = by_threshold(KvCachePolicy::recursion_wise, momentum);
    Model model(config, reference());
    model.init(1);
    Trainer trainer(model, still);
    std::vector<double> expected{0, 0, 0};
    for (uint32_t t = 0; t < 4; ++t) {
      const StepResult result = trainer.step(batch(config, t).data(), 1, kSequences, kLength);
      EXPECT_EQ(result.thresholds, expected) << t;
      expected = thresholds_of(model);
      if (momentum == 0) {
        measured.push_back(expected);
        continue;
      }
      // The scores of recursion 2 do not depend on any threshold.
      double average = measured[0][1];
      for (uint32_t i = 1; i <= t; ++i) average = 0.75 * average + 0.25 * measured[i][1];
      EXPECT_DOUBLE_EQ(expected[1], average) << t;
    }
  }
  EXPECT_NE(measured[0][1], measured[1][1]);
}

/// The losses of a training pass, [sequences * length].
std::vector<double> training_losses(const Model& model, const std::vector<int32_t>& rows, Routing routing) {
  PassOptions options;
  options.routing = routing;
  const Gradients gradients(model);
  const DeviceBatch batch(model.ops(), rows, 1);
  const auto pass = [&](const Workspace& w) {
    return training_pass(model, w, gradients.views(), batch.get(), options);
  };
  Readback readback(model.ops());
  readback.arena().reserve(count_memory(model.ops(), pass).report);
  Arena arena(model.ops());
  const PassReport report = pass({model.ops(), arena, readback.arena()});
  readback.fetch(readback.arena().contents().bytes);
  return readback.values(report.losses);
}

TEST(ThresholdSelection, NoLaterTokenChangesAnEarlierLoss) {
  for (const MakeOps make : {reference, cpu_float32})
    for (const KvCachePolicy kv : kPolicies) {
      const ModelConfig config = by_threshold(kv);
      Model model(config, make());
      model.init(1);
      const std::vector<int32_t> tokens = random_tokens(kLength + 1, config.vocab_size, 7);
      set_thresholds(model, exact_thresholds(config, make, {tokens.data(), nullptr, {{1, kLength}}}));
      bool topk_changes = false;
      for (size_t changed = 2; changed < kLength; changed += 3) {
        std::vector<int32_t> others = tokens;
        others[changed] = (others[changed] + 17) % config.vocab_size;
        for (const Routing routing : {Routing::threshold, Routing::topk}) {
          const std::vector<double> before = training_losses(model, tokens, routing),
                                    after = training_losses(model, others, routing);
          ASSERT_EQ(before.size(), size_t{kLength});
          // The loss of row changed - 1 is that of the changed token itself.
          const bool equal = std::equal(before.begin(), before.begin() + static_cast<int64_t>(changed) - 1,
                                        after.begin(), [](double x, double y) { return std::abs(x - y) < 1e-5; });
          EXPECT_TRUE(equal || routing == Routing::topk) << "token " << changed;
          topk_changes = topk_changes || (routing == Routing::topk && !equal);
        }
      }
      EXPECT_TRUE(topk_changes);
    }
}

TEST(ThresholdSelection, EvaluationByThresholdIsTheTrainingPass) {
  for (const MakeOps make : {reference, cpu_float32, cpu_bfloat16})
    for (const KvCachePolicy kv : kPolicies) {
      ModelConfig config = by_threshold(kv);
      config.router.capacity_warmup_steps = 3;
      Model model(config, make());
      model.init(1);
      TrainerOptions options;
      options.learning_rate = 1e-2;
      Trainer trainer(model, options);
      for (uint32_t t = 0; t < 6; ++t) {
        const StepResult evaluated = trainer.evaluate(batch(config, t).data(), kSequences, kLength, Routing::threshold),
                         trained = trainer.step(batch(config, t).data(), 1, kSequences, kLength);
        EXPECT_EQ(evaluated.depth_histogram, trained.depth_histogram) << t;
        EXPECT_NEAR(evaluated.loss, trained.loss, 1e-6) << t;
        EXPECT_EQ(trained.routing_accuracy, -1) << "there is no top-k to agree with";
      }
      const StepResult topk = trainer.evaluate(batch(config, 6).data(), kSequences, kLength, Routing::topk);
      EXPECT_EQ(topk.depth_histogram, (std::vector<int64_t>{16, 16, 16}));
      EXPECT_GT(topk.routing_accuracy, 0.5);
    }
}

TEST(ThresholdSelection, HoldsTheCapacityOnAverage) {
  ModelConfig config = by_threshold(KvCachePolicy::recursion_wise);
  config.router.capacity_warmup_steps = 100;
  Model model(config, cpu_float32());
  model.init(1);
  TrainerOptions options;
  options.learning_rate = 3e-4;
  Trainer trainer(model, options);
  constexpr int32_t kRows = 8;
  std::vector<double> selected(3, 0), wanted(3, 0), warming(3, 0), wanted_warming(3, 0);
  for (uint32_t t = 0; t < 300; ++t) {
    const std::vector<int32_t> tokens = random_tokens(kRows * (kLength + 1), config.vocab_size, t);
    const StepResult result = trainer.step(tokens.data(), 1, kRows, kLength);
    for (int32_t r = 1; r <= 3; ++r) {
      const auto i = static_cast<size_t>(r) - 1;
      (t < 100 ? warming : selected)[i] += result.selected_shares.at(i);
      (t < 100 ? wanted_warming : wanted)[i] += static_cast<double>(config.selected_count(r, kLength, t)) / kLength;
    }
  }
  for (size_t r = 0; r < 3; ++r) {
    EXPECT_NEAR(selected[r] / 200, wanted[r] / 200, 0.03) << r;
    EXPECT_NEAR(warming[r] / 100, wanted_warming[r] / 100, 0.1) << r;
  }
}

TEST(ThresholdSelection, ARecursionWithoutTokensIsLegal) {
  for (const MakeOps make : {reference, cpu_float32, cpu_bfloat16})
    for (const KvCachePolicy kv : kPolicies)
      for (const bool recompute : {false, true}) {
        ModelConfig config = by_threshold(kv);
        config.router.capacities = {0.9, 0.5, 0.25};
        Model model(config, make());
        model.init(1);
        TrainerOptions options;
        options.recompute = recompute;
        Trainer trainer(model, options);
        set_thresholds(model, {-100, 100, -100});
        StepResult result = trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
        EXPECT_EQ(result.depth_histogram, (std::vector<int64_t>{48, 0, 0}));
        EXPECT_TRUE(std::isfinite(result.loss));
        EXPECT_EQ(thresholds_of(model)[2], -100) << "no score was measured";
        set_thresholds(model, {100, 100, 100});
        result = trainer.step(batch(config, 1).data(), 1, kSequences, kLength);
        EXPECT_EQ(result.selected_shares, (std::vector<double>{0, 0, 0}));
        EXPECT_TRUE(std::isfinite(result.loss));
        EXPECT_EQ(result.dead_token_ratio, 1);
        EXPECT_LT(thresholds_of(model)[0], 100) << "so that a later step selects again";
      }
}

/// Micro-batches of one row are the batch of all rows: one threshold, which moves once. The auxiliary loss is a mean
/// over what enters a recursion in a micro-batch, which differs.
TEST(ThresholdSelection, AccumulationChangesNothing) {
  ModelConfig config = by_threshold(KvCachePolicy::hybrid);
  config.router.auxiliary_loss_coefficient = 0;
  Model whole(config, reference()), split(config, reference());
  whole.init(1);
  split.init(1);
  Trainer a(whole, {}), b(split, {});
  for (uint32_t t = 0; t < 4; ++t) {
    const StepResult x = a.step(batch(config, t).data(), 1, 2, kLength),
                     y = b.step(batch(config, t).data(), 2, 1, kLength);
    EXPECT_NEAR(x.lm_loss, y.lm_loss, 1e-9) << t;
    EXPECT_EQ(x.depth_histogram, y.depth_histogram) << t;
    for (size_t r = 0; r < 3; ++r) EXPECT_NEAR(x.thresholds[r], y.thresholds[r], 1e-9) << t;
  }
}

/// A recursion that the schedule of depth leaves out has no scores.
TEST(ThresholdSelection, ARecursionThatDoesNotRunYetKeepsItsThreshold) {
  const ModelConfig config = by_threshold(KvCachePolicy::shared);
  Model model(config, cpu_float32());
  model.init(1);
  TrainerOptions options;
  options.depth = {2, 2};
  Trainer trainer(model, options);
  for (uint32_t t = 0; t < 3; ++t) {
    EXPECT_EQ(thresholds_of(model)[1] != 0, t > 0) << t;
    EXPECT_EQ(thresholds_of(model)[2], 0) << t;
    const StepResult result = trainer.step(batch(config, t).data(), 1, kSequences, kLength);
    EXPECT_EQ(result.selected_shares.at(2) > 0, t == 2) << t;
  }
  EXPECT_NE(thresholds_of(model)[2], 0);
}

/// A teacher works by its own thresholds, so a copy of the model teaches nothing.
TEST(ThresholdSelection, ATeacherOfTheSameThresholdsSaysTheSame) {
  for (const MakeOps make : {reference, cpu_float32}) {
    const ModelConfig config = by_threshold(KvCachePolicy::recursion_wise);
    Model teacher(config, make()), student(config, make());
    teacher.init(1);
    student.init(1);
    const std::vector<int32_t> tokens = batch(config, 0);
    const TokenRows rows{tokens.data(), nullptr, {{kSequences, kLength}}};
    const std::vector<double> exact = exact_thresholds(config, make, rows);
    TrainerOptions options;
    options.learning_rate = 0;
    options.distillation.teacher = &teacher;
    Trainer trainer(student, options);
    set_thresholds(student, exact);
    EXPECT_GT(trainer.step(rows).distillation_loss, 0);
    set_thresholds(student, exact);
    set_thresholds(teacher, exact);
    EXPECT_EQ(trainer.step(rows).distillation_loss, 0);
  }
}

class CountedReads final : public RefOps<float> {
 public:
  void copy_to_host(void* host, const void* device, size_t bytes) override {
    ++count;
    RefOps<float>::copy_to_host(host, device, bytes);
  }
  int64_t count = 0;
};

/// Another thread may use them at the same time: that of the teacher, which may generate while its pupils learn.
TEST(ThresholdSelection, TheOpsOfATeacherAreLeftAlone) {
  const ModelConfig config = by_threshold(KvCachePolicy::recursion_wise);
  auto ops = std::make_unique<CountedReads>();
  const int64_t& reads = ops->count;
  Model teacher(config, std::move(ops)), student(config, std::make_unique<RefOps<float>>());
  teacher.init(1);
  student.init(2);
  TrainerOptions options;
  options.distillation.teacher = &teacher;
  const int64_t before = reads;
  Trainer trainer(student, options);
  trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
  EXPECT_EQ(reads, before);
}

/// A step that is refused moves no threshold.
TEST(ThresholdSelection, ARefusedStepMovesNothing) {
  const ModelConfig config = by_threshold(KvCachePolicy::recursion_wise);
  Model model(config, cpu_float32());
  model.init(1);
  Trainer trainer(model, {});
  trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
  const auto count = static_cast<size_t>(model.parameters().list()[0].count());
  model.set(0, std::vector<float>(count, std::nanf("")).data());
  const std::vector<double> before = thresholds_of(model);
  EXPECT_THROW(trainer.step(batch(config, 1).data(), 1, kSequences, kLength), Error);
  EXPECT_EQ(thresholds_of(model), before);
}

}  // namespace
}  // namespace mor::test
