// Tests of ranks that train one model together, of the same program as data_parallel_test.cpp: what one rank refuses
// all refuse, and ranks that die, diverge or differ are named.
#include <limits>
#include <utility>

#include "test/error_message.h"
#include "test/train/data_parallel.h"
#include "train/divergence.h"
#include "train/ranks.h"

namespace mor::test {
namespace {

void take_step(Trainer& trainer, const Rows& rows) {
  trainer.step(rows.view());
}

/// Every rank takes one step, tries another one, which `spoil` or `step_of_rank_1` makes fail on rank 1 of 3, and takes
/// it once more after `mend`. Expects that nobody has done the failed one. Returns what each rank said.
std::vector<std::string> refused_steps(const ModelConfig& config, MakeOps make,
                                       const std::function<void(Model&, Rows&)>& spoil,
                                       const std::function<void(Model&)>& mend,
                                       const std::function<void(Trainer&, const Rows&)>& step_of_rank_1 = take_step) {
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
      (rank == 1 ? step_of_rank_1 : take_step)(trainer, rows);
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

TEST(DataParallel, AnErrorInPlaceOfAStepIsThatOfAllRanks) {
  const std::vector<std::string> refused = refused_steps(
      minimal(RouterType::token_choice), cpu_float32, [](Model&, Rows&) {}, [](Model&) {},
      [](Trainer& trainer, const Rows&) {
        trainer.fail(RankCall::step, Error(error_code_named("ABORTED"), "not wanted", __FILE__, __LINE__));
      });
  EXPECT_EQ(refused[1], "not wanted");
  for (const size_t other : {0, 2}) EXPECT_EQ(refused[other], "rank 1: not wanted");
  EXPECT_EQ(message_of([] { error_code_named("ABORT"); }), "\"ABORT\" is not the code of an error");
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
        for (const std::function<void()>& call : {std::function<void()>([&] { trainer.step(rows.view()); }),
                                                  {[&] { trainer.compare_ranks(RankCall::save); }}})
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
  EXPECT_EQ(messages([&](ThreadCommunicator& c) {
              check_same(Ranks(&c), {{"learningRate", "0.1"}, {"their devices", c.rank() == 0 ? "cpu" : "cuda"}});
            }),
            both("ranks differ in their devices: cpu on rank 0, but cuda on rank 1" + advice));
  EXPECT_EQ(
      messages([&](ThreadCommunicator& c) {
        check_same(Ranks(&c), {{c.rank() == 0 ? "eps" : "epsilon", ""}});
      }),
      both("ranks differ in what their trainers must have in common: eps on rank 0, but epsilon on rank 1" + advice));
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

TEST(Ranks, NameCallsThatDiffer) {
  run_ranks(2, [](ThreadCommunicator& communicator) {
    const std::string error = message_of(
        [&] {
          if (communicator.rank() == 0)
            Ranks(&communicator).gather_bytes(RankCall::texts, [] { return "a text"; });
          else
            Ranks(&communicator).gather(RankCall::step, [] { return Numbers{1}; });
        },
        ErrorCode::COMMUNICATION_FAILED);
    const char* expected = communicator.rank() == 0 ? "rank 0 gathers texts, but rank 1 takes a step; "
                                                    : "rank 1 takes a step, but rank 0 gathers texts; ";
    EXPECT_EQ(error.find(expected), 0u) << error;
  });
}

}  // namespace
}  // namespace mor::test
