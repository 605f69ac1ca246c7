// Memory of decode graphs: no graph uses memory that was released, whichever allocation of the engine fails; and when
// there are more sizes than the engine keeps graphs for, old graphs make room for new ones.
#include <set>

#include "test/cuda_host/tests/decode_graph.h"
#include "test/engine/support.h"

namespace mor::test {
namespace {

/// One piece of device memory, in which every allocation gets the lowest address with enough room, as drivers do it. So
/// an address is soon used again, with less room behind it than before. Writes to free memory are found.
class FirstFitOps : public CountedOps {
 public:
  explicit FirstFitOps(Replays& replays)
      : CountedOps(replays, DType::float32), piece_(static_cast<char*>(CudaOps::allocate(kBytes))) {
    give_back(0, kBytes);
  }
  ~FirstFitOps() override { CudaOps::release(piece_, kBytes); }

  void* allocate(size_t bytes) override {
    if (refuse > 0 && --refuse == 0) MOR_FAIL(OUT_OF_MEMORY, "no ", bytes, " bytes for a test's sake");
    const size_t size = (bytes / kAlignment + 1) * kAlignment;
    size_t at = 0;
    for (const auto& [begin, taken] : taken_) {
      if (begin - at >= size) break;
      at = begin + taken;
    }
    MOR_CHECK(at + size <= kBytes, OUT_OF_MEMORY, "no ", bytes, " bytes after ", at, " of ", kBytes);
    taken_[at] = size;
    return piece_ + at;
  }
  void release(void* pointer, size_t) noexcept override {
    const auto found = taken_.find(static_cast<size_t>(static_cast<char*>(pointer) - piece_));
    give_back(found->first, found->second);
    taken_.erase(found);
  }
  /// Whether all free memory is as it was when it was released.
  bool untouched() {
    std::vector<uint8_t> bytes(kBytes);
    copy_to_host(bytes.data(), piece_, kBytes);
    for (const auto& [begin, taken] : taken_) std::fill_n(&bytes[begin], taken, kFree);
    return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == kFree; });
  }

  int refuse = 0;  ///< n: the n-th allocation from now fails; 0: none fails

 private:
  static constexpr size_t kBytes = size_t{16} << 20, kAlignment = 256;
  static constexpr uint8_t kFree = 0xff;  // NaN, which shows up in results that were read from it

  void give_back(size_t at, size_t bytes) noexcept {
    EXPECT_EQ(cudaMemsetAsync(piece_ + at, kFree, bytes, stream().handle()), cudaSuccess);
  }

  char* piece_;
  std::map<size_t, size_t> taken_;  ///< the size of every allocation, by its offset
};

ModelConfig small_config() {
  ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 8;
  config.intermediate_size = 12;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 1;
  config.num_key_value_heads = 1;
  config.head_dim = 8;
  config.initializer_range = 0.2;
  set_router(config, RouterType::none);
  return config;
}

std::vector<Wanted> short_requests(const ModelConfig& config, int32_t count) {
  std::vector<Wanted> wanted(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; ++i) {
    Wanted& w = wanted[static_cast<size_t>(i)];
    w.prompt = random_tokens(1, config.vocab_size, static_cast<uint32_t>(i));
    w.params.max_tokens = 4;
    w.params.logprobs = true;
  }
  return wanted;
}

void expect_same_results(const std::map<uint64_t, Generated>& actual, const std::map<uint64_t, Generated>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [request, generated] : actual) {
    SCOPED_TRACE(concat("request ", request));
    EXPECT_EQ(generated.reason, FinishReason::length) << generated.message;
    expect_same_bits(generated, expected.at(request));
  }
}

/// Whether two keys belong to stages of one size that had their memory at the same addresses at different times.
bool lies_as(const RecordingKey& key, const RecordingKey& other) {
  int different = 0;
  for (size_t i = 0; i < key.size(); ++i) different += key[i] != other[i];
  return different == 1 && size_of(key) == size_of(other);
}

/// After requests whose graphs are kept, a longer request comes, and each of the allocations that it needs fails in one
/// run. A stage's memory then begins at the same address as before but continues elsewhere.
TEST(DecodeGraphMemory, NothingIsReplayedInMemoryThatWasGivenBack) {
  ModelConfig config = small_config();
  config.intermediate_size = 2048;  // a stage then needs more than the first block of its arena
  config.max_position_embeddings = 300;
  Replays replays;
  auto made = std::make_unique<FirstFitOps>(replays);
  FirstFitOps& ops = *made;
  Model model(config, std::move(made));
  model.init(3);
  EngineOptions options;
  options.kv_cache_bytes = size_t{1} << 18;
  const std::vector<Wanted> few = short_requests(config, 8);
  Wanted longer;
  longer.prompt = random_tokens(120, config.vocab_size, 99);

  int refusals = 0, in_place = 0;
  for (bool refused = true; refused;) {
    SCOPED_TRACE(concat("refused after ", refusals, " allocations"));
    Engine engine(model, options);
    replays.keys.clear();
    const std::map<uint64_t, Generated> expected = run_engine(engine, few);
    const std::set<RecordingKey> before(replays.keys.begin(), replays.keys.end());
    ops.refuse = refusals + 1;
    const Generated answer = run_engine(engine, {longer}).at(0);
    refused = ops.refuse == 0;
    if (refused) ++refusals;
    ops.refuse = 0;
    EXPECT_EQ(answer.reason, refused ? FinishReason::error : FinishReason::length) << answer.message;
    replays.keys.clear();
    expect_same_results(run_engine(engine, few), expected);
    EXPECT_TRUE(ops.untouched()) << "free memory was written";
    for (const RecordingKey& key : replays.keys)
      in_place += std::any_of(before.begin(), before.end(), [&](const auto& other) { return lies_as(key, other); });
  }
  EXPECT_GE(refusals, 2);
  EXPECT_GT(in_place, 0) << "no stage had the address of an earlier one";
}

/// In the second round the graphs of the first sizes have been dropped, so every size is recorded again.
TEST(DecodeGraphMemory, OfManySizesSixtyFourAreKept) {
  ModelConfig config = small_config();
  config.num_hidden_layers = 4;
  config.num_recursions = 2;
  config.sharing = Sharing::middle_cycle;  // layers before the block, in it and after it
  config.max_position_embeddings = 1200;
  const auto generate = [&](std::unique_ptr<Ops> device, int rounds, const auto& after_round) {
    Model model(config, std::move(device));
    model.init(3);
    Engine engine(model, {});
    std::vector<std::map<uint64_t, Generated>> results;
    for (int round = 0; round < rounds; ++round) {
      for (const int32_t keys : {200, 300, 550, 1050})
        for (const int32_t rows : {1, 2, 4, 8, 16, 32}) {
          std::vector<Wanted> wanted = short_requests(config, rows);
          wanted[0].prompt = random_tokens(keys, config.vocab_size, 8);
          results.push_back(run_engine(engine, wanted));
        }
      after_round();
    }
    return results;
  };
  const auto eager = generate(std::make_unique<EagerOps>(0, DType::float32), 1, [] {});
  Replays replays;
  std::vector<int> calls;
  const auto graphs = generate(std::make_unique<CountedOps>(replays, DType::float32), 2, [&] {
    calls.push_back(replays.calls);
    replays.calls = 0;
  });
  for (size_t i = 0; i < graphs.size(); ++i) {
    SCOPED_TRACE(concat("run ", i));
    expect_same_results(graphs[i], eager[i % eager.size()]);
  }
  std::set<RecordingKey> sizes;
  for (const RecordingKey& key : replays.keys) sizes.insert(size_of(key));
  EXPECT_GT(sizes.size(), 64u);
  EXPECT_GE(calls[0], static_cast<int>(2 * sizes.size())) << "twice more for sizes at which the memory of stages grew";
  EXPECT_EQ(calls[1], static_cast<int>(2 * sizes.size())) << "each size is recorded again";
  EXPECT_EQ(replays.most_kept, 64);
  EXPECT_EQ(replays.kept, 0) << "the recordings end with the engine";
}

}  // namespace
}  // namespace mor::test
