// Tests of a trainer's checkpoint: the files of any number of ranks are those of one, any number of ranks goes on from
// them, and what goes wrong on one rank is an error on all, which leaves the checkpoint of before.
#include "checkpoint/trainer_checkpoint.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "checkpoint/folder_update.h"
#include "test/checkpoint/support.h"
#include "test/distributed/thread_communicator.h"
#include "test/error_message.h"
#include "test/train/support.h"

namespace mor::test {
namespace {

const CancelCheck kNever = [] {};
const std::string kWeights = "model.safetensors", kState = "trainer.safetensors", kJson = "trainer.json";

/// As lib/trainer_checkpoint.ts has them written, with other heads: the masters stand for the weights that have some.
/// mark: of the save.
std::vector<SavedFile> files_of(const Trainer& trainer, const std::string& mark = "a") {
  SavedFile weights{kWeights, {"weights " + mark}, {}, ""}, state{kState, {"state " + mark}, {}, ""};
  std::vector<std::string> masters;
  for (const auto& [name, shape] : trainer.whole_state())
    if (name.rfind("master.", 0) == 0)
      masters.push_back(name);
    else
      state.tensors.push_back({name, FileDType::F32});
  for (const Parameter& p : trainer.model().parameters().list()) {
    const bool separate = std::find(masters.begin(), masters.end(), "master." + p.name) != masters.end();
    weights.tensors.push_back({(separate ? "master." : "") + p.name, FileDType::F32});
  }
  return {weights, state, {kJson, {"{ \"step\": ", ", \"again\": ", " }"}, {}, ""}};
}

/// Where the tensors lie in such a file, of which only those in `of` are listed.
CheckpointFile located(const std::string& folder, const SavedFile& file, const TensorTable& sizes,
                       const TensorTable& of) {
  CheckpointFile found{fs::path(folder) / file.name, {}};
  auto offset = static_cast<int64_t>(file.head[0].size());
  for (const auto& [name, dtype] : file.tensors) {
    const int64_t bytes = sizes.at(name).count * file_dtype_size(dtype);
    if (of.count(name) > 0) found.tensors.push_back({name, dtype, offset, bytes});
    offset += bytes;
  }
  return found;
}

/// As Trainer.resume does: first the weights of the model, by their own names, then the state.
void load(Model& model, Trainer& trainer, const std::string& folder) {
  const std::vector<SavedFile> files = files_of(trainer);
  const TensorTable weights = weights_table(model), state = state_table(trainer), sizes = checkpoint_table(trainer);
  SavedFile plain = files[0];
  for (SavedFile::Part& part : plain.tensors)
    if (part.tensor.rfind("master.", 0) == 0) part.tensor.erase(0, std::string("master.").size());
  read_tensors(model.ops(), {located(folder, plain, sizes, weights)}, weights, kNever);
  model.weights_changed();
  read_trainer(trainer, {located(folder, files[0], sizes, state), located(folder, files[1], sizes, state)}, 3, kNever);
}

/// A trainer of one rank, and the model that it trains.
struct Training {
  Training(const ModelConfig& config, MakeOps make, Communicator* communicator, TrainerOptions options = {})
      : model(config, make()), trainer((model.init(1), model), with(communicator, options)) {}
  static TrainerOptions with(Communicator* communicator, TrainerOptions options) {
    options.communicator = communicator;
    options.bucket_size = 192;
    return options;
  }
  void step(uint32_t seed) {
    const std::vector<int32_t> tokens = random_tokens(2 * 9, model.config().vocab_size, seed);
    trainer.step(tokens.data(), 1, 2, 8);
  }
  void save(const std::string& folder, const std::string& mark = "a", const CancelCheck& check = kNever) {
    save_trainer(trainer, folder, files_of(trainer, mark), check);
  }

  Model model;
  Trainer trainer;
};

/// One rank of several, or one that trains alone.
void run(int32_t ranks, const std::function<void(Communicator*)>& body) {
  if (ranks == 1)
    body(nullptr);
  else
    run_ranks(ranks, [&](ThreadCommunicator& communicator) { body(&communicator); });
}

struct Case {
  std::string name;
  ModelConfig config;
  MakeOps make;
  TrainerOptions options{};
};
std::vector<Case> cases() {
  ModelConfig threshold = routed(tiny_config(), RouterType::expert_choice, KvCachePolicy::hybrid);
  threshold.num_hidden_layers = 5;
  threshold.router.selects_by_threshold = true;
  TrainerOptions frozen;
  frozen.parameters.resize(2);
  frozen.parameters[0] = {"model.embed_tokens.weight"};
  frozen.parameters[1] = {"model.norm.weight"};
  frozen.parameters[0].frozen = frozen.parameters[1].frozen = true;
  return {{"float32", tiny_config(), cpu_float32},
          {"bfloat16", threshold, cpu_bfloat16},
          {"frozen", tiny_config(), cpu_bfloat16, frozen}};
}

/// Expects that what this rank keeps of the state, and all of the weights that are written, lie where they should.
void expect_written(const Training& training, const std::string& folder) {
  const Files files = files_in(folder);
  const TensorTable sizes = checkpoint_table(training.trainer), weights = weights_table(training.model),
                    state = state_table(training.trainer);
  for (const SavedFile& file : files_of(training.trainer)) {
    if (file.tensors.empty()) continue;
    TensorTable expected = weights;
    expected.insert(state.begin(), state.end());
    for (const TensorLocation& location : located(folder, file, sizes, expected).tensors)
      for (const NamedTensor& part : expected.at(location.name).parts) {
        const std::vector<double> values = read_master(training.model.ops(), part.tensor);
        for (size_t i = 0; i < values.size(); ++i) {
          float stored;
          const size_t at =
              static_cast<size_t>(location.offset) + (static_cast<size_t>(part.begin) + i) * sizeof(stored);
          ASSERT_LE(at + sizeof(stored), files.at(file.name).size());
          files.at(file.name).copy(reinterpret_cast<char*>(&stored), sizeof(stored), at);
          ASSERT_EQ(stored, static_cast<float>(values[i])) << location.name << "[" << part.begin << " + " << i << "]";
        }
      }
  }
}

TEST(TrainerCheckpoint, RanksWriteWhatOneWritesAndAnyNumberGoesOn) {
  for (const Case& c : cases())
    for (const int32_t ranks : {1, 2, 3}) {
      SCOPED_TRACE(concat(c.name, " on ", ranks));
      TemporaryFolder folder;
      const std::string first = folder / "new" + "/first";
      run(ranks, [&](Communicator* communicator) {
        Training training(c.config, c.make, communicator, c.options);
        for (uint32_t t = 0; t < 3; ++t) training.step(t);
        training.save(first);
        expect_written(training, first);
      });
      const Files saved = files_in(first);
      EXPECT_EQ(saved.size(), 3u);
      EXPECT_EQ(saved.at(kJson), "{ \"step\": 3, \"again\": 3 }");
      for (const int32_t others : {1, 2, 3}) {
        const std::string second = folder / concat("of ", others);
        run(others, [&](Communicator* communicator) {
          Training training(c.config, c.make, communicator, c.options);
          load(training.model, training.trainer, first);
          EXPECT_EQ(training.trainer.steps_done(), 3);
          training.save(second);
        });
        EXPECT_TRUE(files_in(second) == saved) << others;
      }
    }
}

TEST(TrainerCheckpoint, HeadsAreThoseOfTheFirstRank) {
  TemporaryFolder folder;
  run_ranks(3, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_float32, &communicator);
    training.save(folder / "it", std::to_string(communicator.rank()));
  });
  EXPECT_EQ(files_in(folder / "it").at(kState).substr(0, 7), "state 0");
}

/// llama.cpp's order of rows, of which a part cannot be read by itself.
TEST(TrainerCheckpoint, RanksReadTheirPartsOfInterleavedHeads) {
  const std::string name = "model.layers.0.self_attn.q_proj.weight";
  const int64_t heads = tiny_config().num_attention_heads;
  TemporaryFolder folder;
  run_ranks(3, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_bfloat16, &communicator);
    training.save(folder / "plain");
    const TensorTable state = state_table(training.trainer);
    const CheckpointTensor& tensor = state.at("master." + name);
    const std::string other = folder / concat("other ", communicator.rank());
    const SavedFile weights = files_of(training.trainer)[0];
    CheckpointFile file = located(folder / "plain", weights, checkpoint_table(training.trainer), state);
    file.tensors.erase(
        std::remove_if(file.tensors.begin(), file.tensors.end(),
                       [&](const TensorLocation& location) { return location.name != "master." + name; }),
        file.tensors.end());
    TensorLocation& location = file.tensors.at(0);
    const std::string bytes = files_in(folder / "plain")
                                  .at(kWeights)
                                  .substr(static_cast<size_t>(location.offset), static_cast<size_t>(location.bytes));
    const std::vector<std::vector<uint8_t>> before = everything(training.trainer);
    for (const NamedTensor& part : tensor.parts) zero(training.model.ops(), part.tensor);
    std::ofstream(other, std::ios::binary) << reordered(bytes.data(), location.bytes, tensor.rows, {heads, true});
    location.offset = 0;
    location.interleaved_heads = heads;
    file.path = other;
    read_trainer(training.trainer, {file}, 0, kNever);
    EXPECT_EQ(everything(training.trainer), before);
  });
}

/// Ranks of which each saves a checkpoint "before", and then one that must fail: `save` does so. Returns what each
/// said. Expects that nothing has changed in the folder. The ranks must be able to save again.
std::vector<std::string> failed_saves(const TemporaryFolder& folder, ErrorCode code,
                                      const std::function<void(Training&, int32_t rank)>& save) {
  constexpr int32_t kRanks = 3;
  std::vector<std::string> messages(kRanks);
  const std::string it = folder / "it";
  run_ranks(kRanks, [&](ThreadCommunicator& communicator) {
    const int32_t rank = communicator.rank();
    Training training(tiny_config(), cpu_bfloat16, &communicator);
    training.save(it, "before");
    const Files before = files_in(it);
    communicator.gather("");  // until all have seen them
    training.step(0);
    messages[static_cast<size_t>(rank)] = message_of([&] { save(training, rank); }, code);
    communicator.gather("");
    EXPECT_TRUE(files_in(it) == before);
    communicator.gather("");
    training.save(it, "after!");
    EXPECT_FALSE(files_in(it) == before);
  });
  EXPECT_EQ(files_in(it).size(), 3u) << "nothing else is left";
  return messages;
}

TEST(TrainerCheckpoint, AnInterruptionOfOneRankIsAnErrorOnAll) {
  for (const int32_t interrupted : {0, 2})
    for (const int after : {0, 1, 5}) {
      SCOPED_TRACE(concat("rank ", interrupted, " after ", after));
      TemporaryFolder folder;
      const std::vector<std::string> messages =
          failed_saves(folder, ErrorCode::ABORTED, [&](Training& training, int32_t rank) {
            int left = rank == interrupted ? after : -1;
            training.save(folder / "it", "failed", [&] { MOR_CHECK(left-- != 0, ABORTED, "the save was aborted"); });
          });
      for (int32_t rank = 0; rank < 3; ++rank)
        EXPECT_EQ(messages[static_cast<size_t>(rank)],
                  concat(rank == interrupted ? "" : concat("rank ", interrupted, ": "), "the save was aborted"));
    }
}

TEST(TrainerCheckpoint, AFolderThatIsNotSharedIsAnErrorOnAll) {
  for (const std::string name : {"it", "another"}) {
    TemporaryFolder folder;
    TemporaryFolder elsewhere;
    fs::create_directory(elsewhere / "it");
    const std::vector<std::string> messages =
        failed_saves(folder, ErrorCode::IO_ERROR, [&](Training& training, int32_t rank) {
          training.save(rank == 1 ? elsewhere / name : folder / "it", "failed");
        });
    EXPECT_EQ(messages[1].find((elsewhere / name) + "/.saving-"), 0u) << messages[1];
    EXPECT_NE(messages[1].find(" is not there, though rank 0 has just made it in the folder that it saves into; give "
                               "all ranks the same folder, of a file system that they share"),
              std::string::npos)
        << messages[1];
    EXPECT_EQ(messages[0], "rank 1: " + messages[1]);
    EXPECT_EQ(messages[2], "rank 1: " + messages[1]);
    EXPECT_EQ(fs::exists(elsewhere / "another"), false);
  }
}

/// The last file of rank 2 becomes a device that is always full.
TEST(TrainerCheckpoint, AFullDiskOfOneRankIsAnErrorOnAll) {
  TemporaryFolder folder;
  const std::vector<std::string> messages =
      failed_saves(folder, ErrorCode::IO_ERROR, [&](Training& training, int32_t rank) {
        bool done = rank != 2, agreed = false;
        const auto fill = [&] {
          // The first call precedes the files.
          if (!std::exchange(agreed, true)) return;
          for (const fs::directory_entry& entry : fs::directory_iterator(folder / "it")) {
            if (done || entry.path().filename().string().rfind(".saving-", 0) != 0) continue;
            fs::remove(entry.path() / kState);
            fs::create_symlink("/dev/full", entry.path() / kState);
            done = true;
          }
        };
        training.save(folder / "it", "failed", fill);
      });
  EXPECT_NE(messages[2].find(kState + " after "), std::string::npos) << messages[2];
  EXPECT_NE(messages[2].find(": No space left on device; free some space on that disk, then try again"),
            std::string::npos)
      << messages[2];
  for (const size_t other : {0, 1}) EXPECT_NE(messages[other].find("No space left on device"), std::string::npos);
}

TEST(TrainerCheckpoint, RanksThatSaveDifferentFilesAreNamed) {
  TemporaryFolder folder;
  const std::vector<std::string> shorter =
      failed_saves(folder, ErrorCode::INVALID_ARGUMENT, [&](Training& training, int32_t rank) {
        std::vector<SavedFile> files = files_of(training.trainer, "failed");
        if (rank == 2) files[1].tensors.pop_back();
        save_trainer(training.trainer, folder / "it", files, kNever);
      });
  for (const std::string& message : shorter) {
    EXPECT_EQ(message.find("ranks save different checkpoints: step 1, model.safetensors of "), 0u) << message;
    EXPECT_NE(message.find(" on rank 0, but step 1, model.safetensors of "), std::string::npos) << message;
    EXPECT_NE(message.find(" on rank 2; give all ranks the same model, options and checkpoint"), std::string::npos);
  }
}

TEST(TrainerCheckpoint, ATensorThatIsNotThereIsNamed) {
  TemporaryFolder folder;
  const std::vector<std::string> messages =
      failed_saves(folder, ErrorCode::INVALID_ARGUMENT, [&](Training& training, int32_t rank) {
        std::vector<SavedFile> files = files_of(training.trainer, "failed");
        if (rank == 1) files[1].tensors.push_back({"bias", FileDType::F32});
        save_trainer(training.trainer, folder / "it", files, kNever);
      });
  EXPECT_EQ(messages, (std::vector<std::string>{"rank 1: there is no tensor 'bias' to write",
                                                "there is no tensor 'bias' to write",
                                                "rank 1: there is no tensor 'bias' to write"}));
}

TEST(TrainerCheckpoint, WhatTheFirstRankCannotPutIntoPlaceIsAnErrorOnAll) {
  TemporaryFolder folder;
  fs::create_directories(folder / "it/model.safetensors/in the way");
  std::vector<std::string> messages(2);
  run_ranks(2, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_float32, &communicator);
    messages[static_cast<size_t>(communicator.rank())] =
        message_of([&] { training.save(folder / "it"); }, ErrorCode::IO_ERROR);
  });
  EXPECT_EQ(messages[0].find("cannot replace "), 0u) << messages[0];
  EXPECT_EQ(messages[1], "rank 0: " + messages[0]);
  EXPECT_EQ(files_in(folder / "it").size(), 1u) << "nothing else is left";
}

/// In a save, ranks gather hashes of their weights, the files that they are to write, what they have written, and
/// whether these are in place.
TEST(TrainerCheckpoint, ARankThatDiesLeavesAWholeCheckpoint) {
  for (const int call : {0, 1, 2, 3})
    for (const int32_t dying : {0, 1}) {
      SCOPED_TRACE(concat("rank ", dying, " in call ", call));
      TemporaryFolder folder;
      const std::string it = folder / "it";
      Files before;
      run_ranks(2, [&](ThreadCommunicator& communicator) {
        Training training(tiny_config(), cpu_float32, &communicator);
        training.save(it, "before");
        if (communicator.rank() == 0) before = files_in(it);
        training.step(0);
        if (communicator.rank() == dying) communicator.last = communicator.gathers + call;
        const std::string lost = message_of([&] { training.save(it, "after!"); }, ErrorCode::COMMUNICATION_FAILED);
        EXPECT_NE(lost.find(concat("rank ", dying, " has failed")), std::string::npos) << lost;
      });
      const Files after = files_in(it);
      EXPECT_EQ(after.size(), 3u);
      EXPECT_EQ(after.at(kState).substr(0, 12), call == 3 ? "state after!" : "state before");
      if (call < 3) {
        EXPECT_TRUE(after == before);
      } else {
        for (const auto& [name, content] : after) EXPECT_FALSE(content == before.at(name)) << name;
      }
    }
}

/// A folder that is in use, however old, stays.
TEST(TrainerCheckpoint, WhatAKilledProcessLeftIsRemoved) {
  TemporaryFolder folder;
  const auto age = [&](const std::string& path) {
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(1));
  };
  FolderUpdate used(folder / "it");
  const std::string in_use = (folder / "it") + "/" + used.staging();
  for (const std::string name : {"/.saving-old", "/.saving-young", "/other"}) {
    fs::create_directory((folder / "it") + name);
    std::ofstream((folder / "it") + name + "/weights") << "some";
  }
  for (const std::string& path : {in_use, (folder / "it") + "/.saving-old", (folder / "it") + "/other"}) age(path);
  Training(tiny_config(), cpu_float32, nullptr).save(folder / "it");
  const Files left = files_in(folder / "it");
  EXPECT_EQ(left.count(".saving-old"), 0u);
  EXPECT_EQ(left.count(".saving-young"), 1u);
  EXPECT_EQ(left.count("other"), 1u);
  EXPECT_EQ(left.count(used.staging()), 1u);
  EXPECT_EQ(left.size(), 6u);
}

/// Its process was killed between two renames.
TEST(TrainerCheckpoint, AnUpdateThatWasCompleteIsFinishedByTheNext) {
  TemporaryFolder folder;
  const std::string it = folder / "it";
  fs::create_directories(it + "/.saved-old");
  for (const std::string& name : {std::string("/.saved-old/other"), "/.saved-old/" + kJson, std::string("/other")})
    std::ofstream(it + name) << name;
  Training(tiny_config(), cpu_float32, nullptr).save(it);
  const Files left = files_in(it);
  EXPECT_EQ(left.size(), 4u);
  EXPECT_EQ(left.at("other"), "/.saved-old/other");
  EXPECT_EQ(left.at(kJson), "{ \"step\": 0, \"again\": 0 }");
}

TEST(TrainerCheckpoint, AFileThatOneRankCannotReadIsAnErrorOnAll) {
  TemporaryFolder folder;
  std::vector<std::string> messages(3);
  run_ranks(3, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_float32, &communicator);
    training.save(folder / "it");
    const TensorTable state = state_table(training.trainer);
    CheckpointFile file =
        located(folder / "it", files_of(training.trainer)[1], checkpoint_table(training.trainer), state);
    if (communicator.rank() == 1) file.path = folder / "gone";
    messages[static_cast<size_t>(communicator.rank())] =
        message_of([&] { read_trainer(training.trainer, {file}, 5, kNever); }, ErrorCode::CHECKPOINT_MISSING);
  });
  const std::string message = (folder / "gone") + " does not exist";
  EXPECT_EQ(messages, (std::vector<std::string>{"rank 1: " + message, message, "rank 1: " + message}));
}

TEST(TrainerCheckpoint, NamesAndSizesAreChecked) {
  TemporaryFolder folder;
  run_ranks(2, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_float32, &communicator);
    training.save(folder / "it");
    const std::string path = (folder / "it") + "/" + kState;
    const auto read = [&](const TensorLocation& location) {
      return message_of(
          [&] {
            read_trainer(training.trainer, {{path, {location}}}, 0, kNever);
          },
          ErrorCode::CHECKPOINT_INVALID);
    };
    EXPECT_EQ(read({"exp_avg.bias", FileDType::F32, 0, 4}), path + ": there is no tensor 'exp_avg.bias' to read into");
    // The norm of 8 elements is on one rank only, but both know its size.
    EXPECT_EQ(read({"exp_avg.model.norm.weight", FileDType::F32, 0, 28}),
              path + ": 'exp_avg.model.norm.weight' has 28 bytes, but its shape needs 32");
  });
}

/// A save would mix the weights of the ranks.
TEST(TrainerCheckpoint, RanksThatHaveDivergedDoNotSave) {
  TemporaryFolder folder;
  const std::vector<std::exception_ptr> failures = failures_of_ranks(3, [&](ThreadCommunicator& communicator) {
    Training training(tiny_config(), cpu_float32, &communicator);
    training.step(0);
    const std::vector<Parameter>& list = training.model.parameters().list();
    for (size_t i = 0; i < list.size(); ++i)
      if (communicator.rank() == 1 && list[i].name == "model.norm.weight")
        training.model.set(i, std::vector<float>(8, 1.0f).data());
    training.save(folder / "it");
  });
  for (const std::exception_ptr& failure : failures) {
    ASSERT_NE(failure, nullptr);
    const std::string message = message_of([&] { std::rethrow_exception(failure); }, ErrorCode::COMMUNICATION_FAILED);
    EXPECT_EQ(message.find("after step 1, the weights of rank 1 are not those of ranks 0, 2; "), 0u) << message;
  }
  EXPECT_EQ(fs::exists(folder / "it"), false);
}

}  // namespace
}  // namespace mor::test
