// Tests a real checkpoint: greedy tokens of stories260K, as recorded with other software. Reports a skip if the file is
// missing.
#include <cstdio>
#include <fstream>
#include <sstream>

#include "checkpoint/input_file.h"
#include "test/engine/support.h"
#include "test/test_devices.h"

namespace mor::test {
namespace {

std::string folder() {
  return std::string(MOR_SOURCE_DIR) + "/../shared/data/checkpoints/stories260K";
}

/// The numbers between `[` and `]` after `key`.
std::vector<int64_t> numbers_after(const std::string& text, const std::string& key, size_t from = 0) {
  const size_t at = text.find('"' + key + '"', from), begin = text.find('[', at), end = text.find(']', begin);
  if (at == std::string::npos || end == std::string::npos) throw std::runtime_error("no " + key);
  std::istringstream list(text.substr(begin + 1, end - begin - 1));
  std::vector<int64_t> numbers;
  for (std::string item; std::getline(list, item, ',');) numbers.push_back(std::stoll(item));
  return numbers;
}

void load(Model& model) {
  const InputFile file(folder() + "/model.safetensors");
  int64_t header_bytes;
  file.read(0, 8, &header_bytes);
  std::string header(static_cast<size_t>(header_bytes), '\0');
  file.read(8, header_bytes, header.data());
  const std::vector<Parameter>& list = model.parameters().list();
  for (size_t i = 0; i < list.size(); ++i) {
    const size_t at = header.find('"' + list[i].name + '"');
    ASSERT_NE(at, std::string::npos) << list[i].name;
    const std::vector<int64_t> range = numbers_after(header, "data_offsets", at);
    ASSERT_EQ(range[1] - range[0], list[i].count() * 4) << list[i].name;
    std::vector<float> values(static_cast<size_t>(list[i].count()));
    file.read(8 + header_bytes + range[0], list[i].count() * 4, values.data());
    model.set(i, values.data());
  }
}

TEST(Stories260K, GreedyTokensAreTheRecordedOnes) {
  std::ifstream recorded(folder() + "/greedy_ids.json");
  if (!recorded) GTEST_SKIP() << "SKIPPED: " << folder() << " is not there; no real checkpoint was tested";
  std::stringstream text;
  text << recorded.rdbuf();
  const std::vector<int64_t> ids = numbers_after(text.str(), "greedy_ids_from_bos");
  ASSERT_GT(ids.size(), 50u);

  ModelConfig config;
  config.vocab_size = 512;
  config.hidden_size = 64;
  config.intermediate_size = 172;
  config.num_hidden_layers = 5;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 4;
  config.head_dim = 8;
  config.max_position_embeddings = 512;
  const auto greedy_ids = [&](Model& model) {
    load(model);
    Wanted w;
    w.prompt = {static_cast<int32_t>(ids[0])};
    w.params.max_tokens = static_cast<int32_t>(ids.size()) - 1;
    Engine engine(model, {});
    const Generated g = run_engine(engine, {w}).at(0);
    std::vector<int64_t> all = {ids[0]};
    all.insert(all.end(), g.tokens.begin(), g.tokens.end());
    return all;
  };
  Model reference(config, std::make_unique<RefOps<double>>());
  EXPECT_EQ(greedy_ids(reference), ids);
  for (const TestDevice& device : test_devices(DType::float32)) {
    SCOPED_TRACE(device.name);
    Model model(config, device.make(DType::float32));
    EXPECT_EQ(greedy_ids(model), ids);
  }
}

}  // namespace
}  // namespace mor::test
