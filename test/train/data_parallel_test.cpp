// Tests of ranks that train one model together: N ranks with B rows each are one rank with N B rows, whatever is
// trained and however; what one rank refuses all refuse; and the state of some ranks is that of any other number of
// ranks.
#include <cmath>
#include <limits>
#include <map>
#include <mutex>

#include "test/distributed/thread_communicator.h"
#include "test/error_message.h"
#include "test/train/support.h"
#include "train/divergence.h"

namespace mor::test {
namespace {

constexpr int32_t kRows = 2, kTokens = 8;

/// Of every kind that training knows; small, since the reference device trains most of them.
ModelConfig minimal(RouterType type, KvCachePolicy kv = KvCachePolicy::recursion_wise) {
  ModelConfig c = tiny_config();
  c.num_hidden_layers = 5;
  if (type == RouterType::token_choice) c.router.z_loss_coefficient = 0.001;
  return routed(c, type, kv);
}

/// Rows for each rank: `micro[rank]` micro-batches of kRows rows. Some targets do not count, fewer on each next rank,
/// and none on the last of several if `idle`.
struct Plan {
  std::vector<int32_t> micro;
  bool masked = false, idle = false;
};
struct Rows {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> counts;
  std::vector<BatchShape> shapes;
  TokenRows view() const { return {tokens.data(), counts.empty() ? nullptr : counts.data(), shapes}; }

  /// Those of a rank's micro-batch of a step.
  void add(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank, int32_t micro) {
    std::vector<int32_t> more =
        random_tokens(kRows * (kTokens + 1), config.vocab_size,
                      1000 * step + 100 * static_cast<uint32_t>(rank) + static_cast<uint32_t>(micro));
    // Two equal tokens at the beginning have equal scores, between which rounding would choose.
    for (size_t first = 0; first < more.size(); first += kTokens + 1)
      if (more[first] == more[first + 1]) more[first + 1] = (more[first] + 1) % config.vocab_size;
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (!plan.masked) return;
    const bool none = plan.idle && rank + 1 == plan.micro.size();
    for (size_t i = 0; i < more.size(); ++i) counts.push_back(none || i % (rank + 2) == 0 ? 0 : 1);
  }
  /// All of a rank, each by itself.
  void add_all(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank) {
    for (int32_t m = 0; m < plan.micro[rank]; ++m) {
      add(plan, config, step, rank, m);
      shapes.push_back({kRows, kTokens});
    }
  }
};

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
Rows rows_of_rank(const Plan& plan, const ModelConfig& config, uint32_t step, size_t rank) {
  Rows rows;
  rows.add_all(plan, config, step, rank);
  return rows;
}

/// Whole tensors by name.
using Tensors = std::map<std::string, std::vector<double>>;

/// What training measured and left.
struct Trained {
  std::vector<StepResult> steps;
  Tensors weights, state;
};

/// Puts what a rank has of the state in its place, which must not be filled yet.
void add_state(const Trainer& trainer, Tensors& state) {
  std::map<std::string, int64_t> counts;
  for (const Parameter& p : trainer.model().parameters().list())
    for (const char* prefix : {"master.", "exp_avg.", "exp_avg_sq."}) counts[prefix + p.name] = p.count();
  for (const NamedTensor& part : trainer.state()) {
    std::vector<double>& whole = state[part.name];
    whole.resize(static_cast<size_t>(counts.at(part.name)), std::numeric_limits<double>::quiet_NaN());
    const std::vector<double> values = read_master(trainer.model().ops(), part.tensor);
    ASSERT_LE(part.begin + static_cast<int64_t>(values.size()), static_cast<int64_t>(whole.size())) << part.name;
    for (size_t i = 0; i < values.size(); ++i) {
      double& place = whole[static_cast<size_t>(part.begin) + i];
      EXPECT_TRUE(std::isnan(place)) << part.name << "[" << static_cast<size_t>(part.begin) + i << "] is there twice";
      place = values[i];
    }
  }
}

void restore_state(Trainer& trainer, const Tensors& state, int64_t steps_done) {
  for (const NamedTensor& part : trainer.state())
    upload(trainer.model().ops(), state.at(part.name).data() + part.begin, part.tensor);
  trainer.set_steps_done(steps_done);
}

void add_weights(const Model& model, Tensors& weights) {
  for (const NamedTensor& t : model.checkpoint_tensors()) weights[t.name] = read_master(model.ops(), t.tensor);
}

void restore_weights(Model& model, const Tensors& weights) {
  const std::vector<Parameter>& list = model.parameters().list();
  for (const NamedTensor& t : model.checkpoint_tensors()) upload(model.ops(), weights.at(t.name).data(), t.tensor);
  ASSERT_EQ(weights.size(), list.size());
  model.weights_changed();
}

/// A run to go on with.
struct Start {
  const Trained* from = nullptr;
  uint32_t steps = 0;
};
void begin(Model& model, const Start& start) {
  model.init(1);
  if (start.from != nullptr) restore_weights(model, start.from->weights);
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

void expect_equal(const StepResult& a, const StepResult& b) {
  EXPECT_EQ(a.loss, b.loss);
  EXPECT_EQ(a.lm_loss, b.lm_loss);
  EXPECT_EQ(a.distillation_loss, b.distillation_loss);
  EXPECT_EQ(a.auxiliary_loss, b.auxiliary_loss);
  EXPECT_EQ(a.z_loss, b.z_loss);
  EXPECT_EQ(a.balancing_loss, b.balancing_loss);
  EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  EXPECT_EQ(a.learning_rate, b.learning_rate);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.targets, b.targets);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.recursions, b.recursions);
  EXPECT_EQ(a.flops, b.flops);
  EXPECT_EQ(a.vanilla_flops, b.vanilla_flops);
  EXPECT_EQ(a.depth_histogram, b.depth_histogram);
  EXPECT_EQ(a.selected_shares, b.selected_shares);
  EXPECT_EQ(a.thresholds, b.thresholds);
  EXPECT_EQ(a.routing_accuracy, b.routing_accuracy);
  EXPECT_EQ(a.dead_token_ratio, b.dead_token_ratio);
  EXPECT_EQ(a.max_vio, b.max_vio);
  EXPECT_EQ(a.load_entropy, b.load_entropy);
}

/// The times of a step of several ranks, which all of them get.
void expect_times(const StepResult& step, const StepResult& of_rank_0, size_t ranks) {
  EXPECT_GE(step.communication_seconds, 0);
  EXPECT_EQ(step.communication_seconds, of_rank_0.communication_seconds);
  EXPECT_GT(step.slowest_rank_seconds, 0);
  EXPECT_EQ(step.slowest_rank_seconds, of_rank_0.slowest_rank_seconds);
  EXPECT_GE(step.slowest_rank, 0);
  EXPECT_LT(step.slowest_rank, static_cast<int32_t>(ranks));
  EXPECT_EQ(step.slowest_rank, of_rank_0.slowest_rank);
}

/// Every rank must measure the same and leave the same weights.
Trained train_ranks(const ModelConfig& config, MakeOps make, TrainerOptions options, const Plan& plan, uint32_t steps,
                    Start start = {}) {
  const auto ranks = plan.micro.size();
  options.bucket_size = 64 * static_cast<int64_t>(ranks);
  std::vector<Trained> trained(ranks);
  std::mutex mutex;
  Tensors state;
  run_ranks(static_cast<int32_t>(ranks), [&](ThreadCommunicator& communicator) {
    TrainerOptions own = options;
    own.communicator = &communicator;
    const auto rank = static_cast<size_t>(communicator.rank());
    Model model(config, make());
    begin(model, start);
    Trainer trainer(model, own);
    if (start.from != nullptr) restore_state(trainer, start.from->state, start.steps);
    for (uint32_t t = start.steps; t < start.steps + steps; ++t)
      trained[rank].steps.push_back(trainer.step(rows_of_rank(plan, config, t, rank).view()));
    add_weights(model, trained[rank].weights);
    const std::lock_guard lock(mutex);
    add_state(trainer, state);
  });
  for (const Trained& other : trained) {
    EXPECT_EQ(other.weights, trained[0].weights);
    for (uint32_t t = 0; t < steps; ++t) {
      expect_equal(other.steps[t], trained[0].steps[t]);
      expect_times(other.steps[t], trained[0].steps[t], ranks);
    }
  }
  for (const auto& [name, values] : state)
    EXPECT_EQ(std::count_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }), 0) << name;
  trained[0].state = state;
  return trained[0];
}

void expect_equal(const Trained& a, const Trained& b) {
  for (size_t t = 0; t < a.steps.size(); ++t) expect_equal(a.steps[t], b.steps[t]);
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.state, b.state);
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

/// Freezes an embedding, and one projection of three that one product computes; others have rates of their own.
TrainerOptions with_groups() {
  TrainerOptions options;
  options.parameters.resize(3);
  options.parameters[0] = {"model.embed_tokens.weight"};
  options.parameters[1] = {"model.layers.1.self_attn.k_proj.weight"};
  options.parameters[0].frozen = options.parameters[1].frozen = true;
  options.parameters[2] = {"model.layers.1.mlp.down_proj.weight", 3.0f, 0.5f};
  return options;
}

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

/// Every rank takes one step, tries another one, which `spoil` makes fail on rank 1 of 3, and takes it once more after
/// `mend`. Expects that nobody has done the failed one. Returns what each rank said.
std::vector<std::string> refused_steps(const ModelConfig& config, MakeOps make,
                                       const std::function<void(Model&, Rows&)>& spoil,
                                       const std::function<void(Model&)>& mend) {
  std::vector<std::string> messages(3);
  const Plan plan{{1, 2, 1}};
  std::vector<StepResult> after(3);
  TrainerOptions options;
  options.bucket_size = 192;
  run_ranks(3, [&](ThreadCommunicator& communicator) {
    TrainerOptions own = options;
    own.communicator = &communicator;
    const auto rank = static_cast<size_t>(communicator.rank());
    Model model(config, make());
    model.init(1);
    Trainer trainer(model, own);
    trainer.step(rows_of_rank(plan, config, 0, rank).view());
    Rows rows = rows_of_rank(plan, config, 1, rank);
    if (rank == 1) spoil(model, rows);
    const std::vector<std::vector<uint8_t>> before = everything(trainer);
    try {
      trainer.step(rows.view());
      ADD_FAILURE() << "rank " << rank << " was not refused";
    } catch (const std::exception& error) {
      messages[rank] = error.what();
    }
    EXPECT_EQ(everything(trainer), before);
    EXPECT_EQ(trainer.steps_done(), 1);
    if (rank == 1) mend(model);
    after[rank] = trainer.step(rows_of_rank(plan, config, 1, rank).view());
  });
  const Trained undisturbed = train_ranks(config, make, {}, plan, 2);
  for (const StepResult& result : after) expect_equal(result, undisturbed.steps[1]);
  return messages;
}

/// The weights of rank 1 are these numbers at parameter `name` while it takes a step, which all ranks must refuse.
void expect_not_finite(const ModelConfig& config, MakeOps make, const std::string& name, float number) {
  std::vector<float> kept;
  size_t index = 0;
  const std::vector<std::string> refused = refused_steps(
      config, make,
      [&](Model& model, Rows&) {
        while (model.parameters().list()[index].name != name) ++index;
        kept.resize(static_cast<size_t>(model.parameters().list()[index].count()));
        model.get(index, kept.data());
        model.set(index, std::vector<float>(kept.size(), number).data());
      },
      [&](Model& model) { model.set(index, kept.data()); });
  for (const std::string& message : refused) {
    EXPECT_EQ(message.find("step 2 was refused: loss "), 0u) << message;
    EXPECT_NE(message.find(" (not finite on rank 1); weights and optimiser state are as before"), std::string::npos)
        << message;
  }
}

TEST(DataParallel, AStepThatIsNotFiniteOnOneRankIsRefusedOnAll) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    for (const RouterType type : {RouterType::none, RouterType::token_choice})
      expect_not_finite(minimal(type), make, "model.layers.0.input_layernorm.weight",
                        std::numeric_limits<float>::infinity());
}

/// The squares of these scores are infinite in the z-loss, but gates and gradients are finite.
TEST(DataParallel, ALossThatIsNotFiniteOnOneRankIsRefusedOnAll) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16})
    expect_not_finite(minimal(RouterType::expert_choice), make, "model.routers.1.weight", 1e25f);
}

TEST(DataParallel, RowsThatOneRankCannotTakeAreRefusedOnAll) {
  const std::vector<std::string> refused = refused_steps(
      minimal(RouterType::expert_choice), cpu_float32, [](Model&, Rows& rows) { rows.tokens[12] = 11; }, [](Model&) {});
  const std::string message = "token 11 at row 1, place 3 is outside the vocabulary of 11";
  EXPECT_EQ(refused[1], message);
  for (const size_t other : {0, 2}) EXPECT_EQ(refused[other], "rank 1: " + message);
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

/// A rank may be interrupted before any layer of its passes.
TEST(DataParallel, AStepThatOneRankGivesUpIsRefusedOnAll) {
  struct GivenUp : std::exception {
    const char* what() const noexcept override { return "given up"; }
  };
  for (const int layer : {0, 7, 18}) {
    int left = layer;
    const std::vector<std::string> refused = refused_steps(
        minimal(RouterType::token_choice), cpu_bfloat16,
        [&](Model& model, Rows&) {
          model.set_interruption([&] {
            if (left-- == 0) throw GivenUp{};
          });
        },
        [](Model& model) { model.set_interruption({}); });
    EXPECT_EQ(refused[1], "given up") << layer;
    for (const size_t other : {0, 2}) EXPECT_EQ(refused[other], "rank 1: given up") << layer;
  }
}

TEST(DataParallel, ARankThatDiesEndsTheOthers) {
  const ModelConfig config = minimal(RouterType::none);
  const std::vector<std::exception_ptr> failures = failures_of_ranks(3, [&](ThreadCommunicator& communicator) {
    TrainerOptions options;
    options.communicator = &communicator;
    Model model(config, cpu_float32());
    model.init(1);
    Trainer trainer(model, options);
    if (communicator.rank() == 2) model.set_interruption([&] { communicator.fail(); });
    trainer.step(rows_of_rank({{1, 1, 1}}, config, 0, static_cast<size_t>(communicator.rank())).view());
  });
  for (const std::exception_ptr& failure : failures) {
    ASSERT_NE(failure, nullptr);
    const std::string message = message_of([&] { std::rethrow_exception(failure); }, ErrorCode::COMMUNICATION_FAILED);
    EXPECT_NE(message.find("rank 2 has failed"), std::string::npos) << message;
  }
}

/// In a step, ranks gather the numbers of their tokens, their norms, the new weights of each bucket, and what they
/// measured. From the weights on, some of them may have done the step.
TEST(DataParallel, AStepThatOnlySomeRanksMayHaveDoneIsNotSaved) {
  const ModelConfig config = minimal(RouterType::none);
  struct Death {
    int call;  ///< from the end, if it is negative
    bool torn;
  };
  for (const Death& death : {Death{0, false}, Death{1, false}, Death{2, true}, Death{-2, true}, Death{-1, true}})
    run_ranks(3, [&](ThreadCommunicator& communicator) {
      TrainerOptions options;
      options.communicator = &communicator;
      options.bucket_size = 192;
      options.weight_hash_interval = 0;
      Model model(config, cpu_bfloat16());
      model.init(1);
      Trainer trainer(model, options);
      const Rows rows = rows_of_rank({{1, 1, 1}}, config, 0, static_cast<size_t>(communicator.rank()));
      const int before_first = communicator.gathers;
      trainer.step(rows.view());
      const int calls = communicator.gathers - before_first;
      const std::vector<std::vector<uint8_t>> before = everything(trainer);
      if (communicator.rank() == 1)
        communicator.last = communicator.gathers + death.call + (death.call < 0 ? calls : 0);
      const std::string lost = message_of([&] { trainer.step(rows.view()); }, ErrorCode::COMMUNICATION_FAILED);
      EXPECT_NE(lost.find("rank 1 has failed"), std::string::npos) << lost;
      EXPECT_EQ(trainer.steps_done(), 1);
      if (!death.torn) {
        EXPECT_EQ(everything(trainer), before);
        return;
      }
      const std::string torn =
          "the ranks lost each other while they took a step, so their weights and optimiser state are of different "
          "steps; resume from the last checkpoint";
      EXPECT_EQ(message_of([&] { trainer.state(); }, ErrorCode::COMMUNICATION_FAILED), torn);
      EXPECT_EQ(message_of([&] { trainer.step(rows.view()); }, ErrorCode::COMMUNICATION_FAILED), torn);
    });
}

/// The weights of rank 1 change between two steps: those that are trained, those that are not, and what routers
/// measure.
TEST(DataParallel, RanksThatDivergeAreNamed) {
  ModelConfig config = minimal(RouterType::expert_choice);
  config.router.selects_by_threshold = true;
  for (const std::string name :
       {"model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight", "model.router.thresholds"})
    for (const int64_t interval : {0, 2})
      run_ranks(3, [&](ThreadCommunicator& communicator) {
        SCOPED_TRACE(concat(name, " every ", interval));
        TrainerOptions options = with_groups();
        options.communicator = &communicator;
        options.weight_hash_interval = interval;
        Model model(config, cpu_bfloat16());
        model.init(1);
        Trainer trainer(model, options);
        const Rows rows = rows_of_rank({{1, 1, 1}}, config, 0, static_cast<size_t>(communicator.rank()));
        for (int t = 0; t < 2; ++t) trainer.step(rows.view());
        size_t index = 0;
        while (model.parameters().list()[index].name != name) ++index;
        std::vector<float> weights(static_cast<size_t>(model.parameters().list()[index].count()));
        model.get(index, weights.data());
        const auto set_last = [&](float value) {
          weights.back() = value;
          if (communicator.rank() == 1) model.set(index, weights.data());
        };
        const float kept = weights.back();
        set_last(0.25f);
        if (interval == 0) {
          EXPECT_EQ(trainer.step(rows.view()).step, 3);
          return;
        }
        const std::vector<std::vector<uint8_t>> before = everything(trainer);
        for (const std::function<void()>& call :
             {std::function<void()>([&] { trainer.step(rows.view()); }), {[&] { trainer.compare_ranks(); }}})
          EXPECT_EQ(message_of(call, ErrorCode::COMMUNICATION_FAILED),
                    "after step 2, the weights of rank 1 are not those of ranks 0, 2; start all ranks from the same "
                    "checkpoint, and if they differ again, look for faults of those machines");
        EXPECT_EQ(everything(trainer), before);
        set_last(kept);
        EXPECT_EQ(trainer.step(rows.view()).step, 3);
        set_last(0.25f);
        EXPECT_EQ(trainer.step(rows.view()).step, 4) << "before this step nothing is compared";
      });
}

TEST(DataParallel, RanksMustBeginWithTheSameWeights) {
  for (const std::exception_ptr& failure : failures_of_ranks(2, [&](ThreadCommunicator& communicator) {
         TrainerOptions options;
         options.communicator = &communicator;
         Model model(tiny_config(), cpu_float32());
         model.init(static_cast<uint64_t>(communicator.rank()));
         Trainer trainer(model, options);
         trainer.step(rows_of_rank({{1, 1}}, tiny_config(), 0, 0).view());
       })) {
    ASSERT_NE(failure, nullptr);
    const std::string message = message_of([&] { std::rethrow_exception(failure); }, ErrorCode::COMMUNICATION_FAILED);
    EXPECT_EQ(message.find("after step 0, the weights of rank 1 are not those of rank 0; "), 0u) << message;
  }
}

/// Whichever element of whichever tensor changes.
TEST(DataParallel, EveryWeightHasItsPartInTheHash) {
  for (const MakeOps make : {cpu_float32, cpu_bfloat16, reference}) {
    ModelConfig config = minimal(RouterType::token_choice);
    config.router.loss_free_balancing = true;
    Model model(config, make());
    model.init(1);
    const uint64_t hash = weights_hash(model);
    for (size_t index = 0; index < model.parameters().list().size(); ++index) {
      std::vector<float> weights(static_cast<size_t>(model.parameters().list()[index].count()));
      model.get(index, weights.data());
      for (float& weight : weights) {
        const float kept = std::exchange(weight, weight == 0.5f ? 0.25f : 0.5f);
        model.set(index, weights.data());
        EXPECT_NE(weights_hash(model), hash);
        weight = kept;
      }
      model.set(index, weights.data());
      EXPECT_EQ(weights_hash(model), hash) << "the same weights";
    }
  }
}

TEST(DataParallel, RanksThatDifferAreNamed) {
  const auto messages = [](const std::function<void(ThreadCommunicator&)>& body) {
    std::vector<std::string> all;
    for (const std::exception_ptr& failure : failures_of_ranks(2, body))
      all.push_back(message_of([&] {
        if (failure != nullptr) std::rethrow_exception(failure);
      }));
    return all;
  };
  const auto both = [](const std::string& message) { return std::vector<std::string>{message, message}; };
  const std::string advice = "; give all ranks the same model, options and checkpoint";
  const auto make_trainer = [&](ThreadCommunicator& communicator, ModelConfig config, TrainerOptions options) {
    Model model(config, cpu_float32());
    options.communicator = &communicator;
    Trainer trainer(model, options);
    trainer.set_steps_done(communicator.rank() + 4);
    trainer.step(rows_of_rank({{1, 1}}, config, 0, 0).view());
  };
  const ModelConfig config = tiny_config();
  EXPECT_EQ(messages([&](ThreadCommunicator& c) {
              ModelConfig own = config;
              own.vocab_size += c.rank();
              make_trainer(c, own, {});
            }),
            both("ranks differ in the number of trained elements: 2160 on rank 0, but 2168 on rank 1" + advice));
  EXPECT_EQ(messages([&](ThreadCommunicator& c) {
              TrainerOptions options;
              options.bucket_size += c.rank();
              make_trainer(c, config, options);
            }),
            both("ranks differ in the size of buckets: 4194304 on rank 0, but 4194305 on rank 1" + advice));
  EXPECT_EQ(messages([&](ThreadCommunicator& c) { make_trainer(c, config, {}); }),
            both("ranks differ in the number of steps done: 4 on rank 0, but 5 on rank 1" + advice));
  EXPECT_EQ(messages([&](ThreadCommunicator& c) {
              TrainerOptions options;
              options.gradient_wire = c.rank() == 0 ? DType::float32 : DType::int32;
              make_trainer(c, config, options);
            }),
            (std::vector<std::string>{"rank 1: gradients cannot travel as int32; use float32 or bfloat16",
                                      "gradients cannot travel as int32; use float32 or bfloat16"}));
}

TEST(Ranks, GatherTexts) {
  run_ranks(3, [](ThreadCommunicator& communicator) {
    const std::vector<std::string> texts = gather_texts(communicator, std::string(communicator.rank(), 'x'));
    EXPECT_EQ(texts, (std::vector<std::string>{"", "x", "xx"}));
  });
}

TEST(Ranks, NameCallsThatDiffer) {
  run_ranks(2, [](ThreadCommunicator& communicator) {
    const std::string error = message_of(
        [&] {
          if (communicator.rank() == 0)
            gather_texts(communicator, "a text");
          else
            Ranks(&communicator).gather([] { return Numbers{1}; });
        },
        ErrorCode::COMMUNICATION_FAILED);
    const char* expected = communicator.rank() == 0
                               ? "rank 0 gathers texts, but rank 1 takes part in a step or a checkpoint; "
                               : "rank 1 takes part in a step or a checkpoint, but rank 0 gathers texts; ";
    EXPECT_EQ(error.find(expected), 0u) << error;
  });
}

}  // namespace
}  // namespace mor::test
