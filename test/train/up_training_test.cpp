// Tests of what up-training adds: frozen tensors without a place in the optimiser, loss masks and rows of several
// lengths, the trainer's own capacity warm-up, and distillation.
#include <algorithm>
#include <cmath>

#include "model/host_values.h"
#include "test/error_message.h"
#include "test/train/support.h"
#include "train/router_state.h"

namespace mor::test {
namespace {

std::vector<std::string> names_of(const Model& model, const std::string& part) {
  std::vector<std::string> names;
  for (const Parameter& p : model.parameters().list())
    if (p.trained && p.name.find(part) != std::string::npos) names.push_back(p.name);
  return names;
}

std::vector<ParameterOptions> frozen_options(const std::vector<std::string>& names) {
  std::vector<ParameterOptions> options;
  for (const std::string& name : names) {
    options.push_back({name});
    options.back().frozen = true;
  }
  return options;
}

std::vector<float> weights_of(const Model& model, size_t index) {
  std::vector<float> values(static_cast<size_t>(model.parameters().list()[index].count()));
  model.get(index, values.data());
  return values;
}

/// Without clipping the update of a tensor depends on its own gradient alone, so what is frozen elsewhere changes
/// nothing in a first step. (Parts of names: an embedding, half of a fused view, a whole one, norms, a router.)
TEST(FrozenParameters, StayWhateverTheyAreAndTheOthersTrainAsEver) {
  for (const MakeOps make : {reference, cpu_float32, cpu_bfloat16})
    for (ModelConfig config : small_models())
      for (const std::string part : {"embed_tokens", "q_proj", "gate_proj", "layernorm", "mlp", "lm_head", "router"}) {
        config.tie_word_embeddings = part != "lm_head";
        Model all(config, make()), some(config, make());
        all.init(1);
        some.init(1);
        TrainerOptions options;
        options.gradient_clip = 0;
        Trainer a(all, options);
        const std::vector<std::string> frozen = names_of(some, part);
        if (frozen.empty()) continue;
        SCOPED_TRACE(part);
        options.parameters = frozen_options(frozen);
        std::vector<std::vector<float>> before;
        for (size_t i = 0; i < some.parameters().list().size(); ++i) before.push_back(weights_of(some, i));
        Trainer b(some, options);
        a.step(batch(config, 0).data(), 1, kSequences, kLength);
        b.step(batch(config, 0).data(), 1, kSequences, kLength);
        for (size_t i = 0; i < before.size(); ++i) {
          const std::string& name = some.parameters().list()[i].name;
          const bool is_frozen = std::find(frozen.begin(), frozen.end(), name) != frozen.end();
          ASSERT_EQ(weights_of(some, i), is_frozen ? before[i] : weights_of(all, i)) << name;
        }
        for (uint32_t t = 1; t < 3; ++t) b.step(batch(config, t).data(), 1, kSequences, kLength);
        for (size_t i = 0; i < before.size(); ++i)
          if (std::find(frozen.begin(), frozen.end(), some.parameters().list()[i].name) != frozen.end()) {
            ASSERT_EQ(weights_of(some, i), before[i]);
          }
        for (const NamedTensor& t : b.state())
          for (const std::string& name : frozen)
            if (t.name.find("exp_avg") == 0) {
              EXPECT_EQ(t.name.find(name), std::string::npos) << t.name;
            }
      }
}

TEST(FrozenParameters, WhatStepsAdjustOfARouterStaysWhereItIsHeld) {
  ModelConfig by_threshold = small_mor(RouterType::expert_choice, KvCachePolicy::hybrid),
              balanced = small_mor(RouterType::token_choice, KvCachePolicy::shared);
  by_threshold.router.selects_by_threshold = true;
  balanced.router.loss_free_balancing = true;
  for (const ModelConfig& config : {by_threshold, balanced}) {
    Model free(config, cpu_float32()), held(config, cpu_float32());
    for (Model* model : {&free, &held}) model->init(1);
    TrainerOptions options;
    Trainer a(free, options);
    options.hold_router_state = true;
    Trainer b(held, options);
    for (uint32_t t = 0; t < 3; ++t)
      for (Trainer* trainer : {&a, &b}) trainer->step(batch(config, t).data(), 1, kSequences, kLength);
    int32_t adjusted = 0;
    for (size_t i = 0; i < held.parameters().list().size(); ++i) {
      const Parameter& p = held.parameters().list()[i];
      if (p.trained) continue;
      ++adjusted;
      EXPECT_EQ(weights_of(held, i), std::vector<float>(static_cast<size_t>(p.count()), 0)) << p.name;
      EXPECT_NE(weights_of(free, i), weights_of(held, i)) << p.name;
    }
    EXPECT_EQ(adjusted, 1);
  }
}

TEST(LossFreeBalancing, EqualLoadsMoveNoBias) {
  for (const int32_t n : {2, 3, 6, 9}) {
    ModelConfig config = small_mor(RouterType::token_choice, KvCachePolicy::shared);
    config.router.loss_free_balancing = true;
    config.num_recursions = n;
    config.num_hidden_layers = 2 + n;
    Model model(config, reference());
    model.init(1);
    const std::vector<double> equal(static_cast<size_t>(n), 49);
    update_balancing_bias(model, equal);
    EXPECT_EQ(read_master(model.ops(), model.balancing_bias()), std::vector<double>(equal.size(), 0)) << n;
    std::vector<double> other = equal;
    other[0] += 1;
    other[1] -= 1;
    update_balancing_bias(model, other);
    std::vector<double> moved(equal.size(), 0);
    moved[0] = -0.001;
    moved[1] = 0.001;
    EXPECT_EQ(read_master(model.ops(), model.balancing_bias()), moved) << n;
  }
}

TEST(FrozenParameters, AMatrixTakesNoMemoryOfTheOptimiser) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  Model model(config, cpu_bfloat16());
  model.init(1);
  const auto memory_with = [&](const std::vector<std::string>& frozen) {
    TrainerOptions options;
    options.parameters = frozen_options(frozen);
    return Trainer(model, options).memory();
  };
  const MemoryUse all = memory_with({}), some = memory_with({"model.embed_tokens.weight"});
  const size_t bytes = size_t{1984} * sizeof(float);  // 61 * 32 elements, and up to the next multiple of 64
  EXPECT_EQ(all.gradients - some.gradients, bytes);
  EXPECT_EQ(all.optimizer - some.optimizer, 2 * bytes);
  EXPECT_EQ(all.parameters - some.parameters, bytes - size_t{1952} * sizeof(float));  // the master stays
}

/// Rows of two lengths in two micro-batches, and a mask: the loss is the mean over what counts, as sums of trainings
/// on single rows say it.
TEST(LossMask, TheLossIsTheMeanOfWhatCountsOverAllMicroBatches) {
  ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  const std::vector<int32_t> tokens = random_tokens(2 * 9 + 6, config.vocab_size, 4);
  std::vector<uint8_t> counts(tokens.size(), 1);
  for (const size_t i : {0, 3, 4, 9, 11, 20}) counts[i] = 0;  // 0 and 9 are the first ids of rows: they never count
  Model model(config, reference());
  model.init(1);
  Trainer trainer(model, {});
  double sum = 0;
  int64_t targets = 0;
  const int32_t lengths[] = {8, 8, 5};
  for (size_t row = 0, first = 0; row < 3; first += static_cast<size_t>(lengths[row++]) + 1)
    for (int32_t t = 1; t <= lengths[row]; ++t) {
      if (counts[first + static_cast<size_t>(t)] == 0) continue;
      std::vector<uint8_t> one(static_cast<size_t>(lengths[row]) + 1, 0);
      one[static_cast<size_t>(t)] = 1;
      const StepResult r = trainer.evaluate({tokens.data() + first, one.data(), {{1, lengths[row]}}}, Routing::topk);
      EXPECT_EQ(r.targets, 1);
      sum += r.lm_loss;
      ++targets;
    }
  EXPECT_EQ(targets, 17);
  const TokenRows rows{tokens.data(), counts.data(), {{2, 8}, {1, 5}}};
  const StepResult evaluated = trainer.evaluate(rows, Routing::topk), trained = trainer.step(rows);
  for (const StepResult& r : {evaluated, trained}) {
    EXPECT_NEAR(r.lm_loss, sum / 17, 1e-12);
    EXPECT_NEAR(r.loss, sum / 17, 1e-12);
    EXPECT_EQ(r.targets, 17);
    EXPECT_EQ(r.tokens, 21);
  }
}

/// A target that does not count is like a row without it: rows that end there have the same gradient.
TEST(LossMask, WhatDoesNotCountHasNoGradient) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::shared);
  for (const MakeOps make : {reference, cpu_float32}) {
    Model masked(config, make()), cut(config, make());
    masked.init(1);
    cut.init(1);
    Trainer a(masked, {}), b(cut, {});
    const std::vector<int32_t> tokens = random_tokens(9, config.vocab_size, 4);
    const std::vector<uint8_t> counts = {1, 1, 1, 1, 1, 1, 0, 0, 0};
    const StepResult x = a.step({tokens.data(), counts.data(), {{1, 8}}}), y = b.step(tokens.data(), 1, 1, 5);
    EXPECT_NEAR(x.loss, y.loss, 1e-5);
    EXPECT_NEAR(x.gradient_norm, y.gradient_norm, 1e-5 * y.gradient_norm);
  }
}

TEST(LossMask, WithoutAnyTargetThereIsNoLoss) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  Model model(config, cpu_float32());
  model.init(1);
  Trainer trainer(model, {});
  const std::vector<int32_t> tokens = random_tokens(5, config.vocab_size, 4);
  const std::vector<uint8_t> counts = {1, 0, 0, 0, 0};
  try {
    trainer.step({tokens.data(), counts.data(), {{1, 4}}});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::INVALID_ARGUMENT);
  }
}

TEST(CapacityWarmUp, OfTheOptionsReplacesThatOfTheModel) {
  ModelConfig with = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise), without = with;
  with.router.capacity_warmup_steps = 3;
  Model a(with, cpu_float32()), b(without, cpu_float32());
  a.init(1);
  b.init(1);
  TrainerOptions options;
  Trainer own(a, options);
  options.capacity_warmup_steps = 3;
  Trainer given(b, options);
  for (uint32_t t = 0; t < 5; ++t) {
    own.step(batch(with, t).data(), 1, kSequences, kLength);
    given.step(batch(with, t).data(), 1, kSequences, kLength);
  }
  EXPECT_EQ(everything(own), everything(given));
}

ModelConfig teacher_config(RouterType router) {
  ModelConfig c = small_mor(router, KvCachePolicy::recursion_wise);
  c.hidden_size = 24;
  c.num_attention_heads = 2;
  c.num_key_value_heads = 1;
  if (router == RouterType::none) {
    c.num_recursions = 1;
    c.num_hidden_layers = 3;
  }
  return c;
}

/// The loss of a step is (1 - w) cross-entropy + w T^2 KL, the latter computed here from the logits of both models.
TEST(DistillationTraining, LossIsThatOfTheLogitsOfBothModels) {
  for (const RouterType router : {RouterType::none, RouterType::expert_choice, RouterType::token_choice}) {
    const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
    Model student(config, reference()), teacher(teacher_config(router), reference());
    student.init(1);
    teacher.init(2);
    const std::vector<int32_t> tokens = batch(config, 3);
    const double temperature = 2, weight = 0.3;
    Arena arena(student.ops()), teacher_arena(teacher.ops());
    const DeviceBatch on_device(student.ops(), tokens, kSequences);
    PassOptions by_threshold;
    by_threshold.routing = Routing::threshold;
    const std::vector<float> s = full_logits(student, arena, on_device.get(), {}).logits,
                             t = full_logits(teacher, teacher_arena, on_device.get(), by_threshold).logits;
    double divergence = 0;
    const auto vocabulary = static_cast<size_t>(config.vocab_size);
    for (size_t row = 0; row < s.size(); row += vocabulary) {
      double sum_s = 0, sum_t = 0;
      for (size_t j = row; j < row + vocabulary; ++j) {
        sum_s += std::exp(static_cast<double>(s[j]) / temperature);
        sum_t += std::exp(static_cast<double>(t[j]) / temperature);
      }
      for (size_t j = row; j < row + vocabulary; ++j) {
        const double log_p = static_cast<double>(t[j]) / temperature - std::log(sum_t),
                     log_q = static_cast<double>(s[j]) / temperature - std::log(sum_s);
        divergence += std::exp(log_p) * (log_p - log_q) * temperature * temperature / (kSequences * kLength);
      }
    }
    TrainerOptions options;
    options.distillation = {&teacher, temperature, weight};
    Trainer trainer(student, options);
    const StepResult r = trainer.step(tokens.data(), 1, kSequences, kLength);
    EXPECT_NEAR(r.distillation_loss, divergence, 1e-5);
    EXPECT_NEAR(r.loss, (1 - weight) * r.lm_loss + weight * r.distillation_loss, 1e-12);
  }
}

TEST(DistillationTraining, AStudentThatIsItsTeacherStays) {
  const ModelConfig config = teacher_config(RouterType::none);
  for (const MakeOps make : {reference, cpu_float32, cpu_bfloat16}) {
    Model student(config, make()), teacher(config, make());
    student.init(1);
    teacher.init(1);
    TrainerOptions options;
    options.weight_decay = 0;
    options.distillation = {&teacher, 2, 1};
    Trainer trainer(student, options);
    const std::vector<std::vector<uint8_t>> before = everything(trainer);
    const StepResult r = trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
    EXPECT_EQ(r.distillation_loss, 0);
    EXPECT_EQ(r.gradient_norm, 0);
    EXPECT_GT(r.lm_loss, 1);
    EXPECT_EQ(everything(trainer), before);
  }
}

TEST(DistillationTraining, AccumulationIsTheMeanOfItsMicroBatches) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  Model whole(config, reference()), split(config, reference()), teacher(teacher_config(RouterType::none), reference());
  whole.init(1);
  split.init(1);
  teacher.init(2);
  TrainerOptions options;
  options.distillation = {&teacher, 2, 0.5};
  Trainer a(whole, options), b(split, options);
  const StepResult x = a.step(batch(config, 0).data(), 1, 2, kLength),
                   y = b.step(batch(config, 0).data(), 2, 1, kLength);
  EXPECT_NEAR(x.loss, y.loss, 1e-12);
  EXPECT_NEAR(x.distillation_loss, y.distillation_loss, 1e-12);
  EXPECT_NEAR(x.gradient_norm, y.gradient_norm, 1e-12);
  EXPECT_DOUBLE_EQ(x.flops, y.flops);
}

/// A teacher's step executes its forward pass once more than a step without one.
TEST(DistillationTraining, CountsWhatTheTeacherExecutes) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  const ModelConfig of_teacher = teacher_config(RouterType::none);
  Model student(config, cpu_float32()), teacher(of_teacher, cpu_float32());
  student.init(1);
  teacher.init(2);
  const std::vector<int32_t> tokens = batch(config, 0);
  double forward = 0;
  {
    Trainer of_teachers(teacher, {});
    forward = of_teachers.step(tokens.data(), 1, kSequences, kLength).flops / 3;
  }
  TrainerOptions options;
  double alone = 0;
  {
    Trainer trainer(student, options);
    alone = trainer.step(tokens.data(), 1, kSequences, kLength).flops;
  }
  options.distillation.teacher = &teacher;
  Trainer trainer(student, options);
  EXPECT_NEAR(trainer.step(tokens.data(), 1, kSequences, kLength).flops, alone + forward, 1);
}

TEST(DistillationTraining, LearnsTheTeacher) {
  const ModelConfig config = small_mor(RouterType::expert_choice, KvCachePolicy::recursion_wise);
  Model student(config, cpu_bfloat16()), teacher(teacher_config(RouterType::none), cpu_bfloat16());
  student.init(1);
  teacher.init(2);
  TrainerOptions options;
  options.learning_rate = 1e-2;
  options.distillation = {&teacher, 1, 1};
  Trainer trainer(student, options);
  const double before = trainer.step(batch(config, 1).data(), 1, kSequences, kLength).distillation_loss;
  double after = before;
  for (int t = 0; t < 40; ++t) after = trainer.step(batch(config, 1).data(), 1, kSequences, kLength).distillation_loss;
  EXPECT_LT(after, 0.5 * before);
}

TEST(DistillationTraining, TeachersThatCannotTeachAreNamed) {
  const ModelConfig config = small_mor(RouterType::none, KvCachePolicy::recursion_wise);
  Model student(config, cpu_float32());
  const auto train_with = [&](const Model& teacher) {
    TrainerOptions options;
    options.distillation.teacher = &teacher;
    Trainer trainer(student, options);
    trainer.step(batch(config, 0).data(), 1, kSequences, kLength);
  };
  ModelConfig other = teacher_config(RouterType::none);
  other.vocab_size = 60;
  EXPECT_EQ(message_of([&] { train_with(Model(other, cpu_float32())); }),
            "the teacher's vocabulary has 60 tokens and the model's 61, but they must be the same");
  EXPECT_EQ(message_of([&] { train_with(Model(config, cpu_bfloat16())); }),
            "the teacher is bfloat16 and the model float32, but both must have one precision");
  EXPECT_EQ(message_of([&] { train_with(student); }), "a model cannot be its own teacher; load the teacher by itself");
  other = teacher_config(RouterType::none);
  other.max_position_embeddings = 16;
  EXPECT_EQ(message_of([&] { train_with(Model(other, cpu_float32())); }, ErrorCode::CONTEXT_OVERFLOW),
            "rows of 24 tokens do not fit the teacher's context of 16");
}

}  // namespace
}  // namespace mor::test
