// Tests of reading tensors from files that are too short, or become so while they are read.
#include "checkpoint/read_tensors.h"

#include <vector>

#include "checkpoint/element_chunks.h"
#include "core/arena.h"
#include "core/check.h"
#include "test/checkpoint/support.h"
#include "test/error_message.h"
#include "test/train/support.h"

namespace mor::test {
namespace {

constexpr int64_t kRows = 3, kColumns = kElementChunk;  // each row is a chunk
constexpr int64_t kChunkBytes = kColumns * 4, kBytes = kRows * kChunkBytes;

/// Reads the float32 tensor "w" of [kRows, kColumns] from `path`.
void read_w(const std::string& path, const CancelCheck& check) {
  const std::unique_ptr<Ops> ops = cpu_float32();
  Arena arena(*ops);
  const Tensor tensor = arena.tensor(DType::float32, kRows, kColumns, "w");
  const TensorTable table{{"w", {kRows, tensor.count(), {{"w", tensor, 0}}}}};
  read_tensors(*ops, {{path, {{"w", FileDType::F32, 0, kBytes}}}}, table, check);
}

TEST(ReadTensors, AFileThatIsShortenedWhileItIsReadIsAnError) {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  std::ofstream(path, std::ios::binary) << std::string(kBytes, 'x');
  int chunks = 0;
  const auto shorten = [&] {
    if (++chunks == 2) fs::resize_file(path, 4096);
  };
  EXPECT_EQ(message_of([&] { read_w(path, shorten); }, ErrorCode::CHECKPOINT_INVALID),
            concat(path, " has no byte ", kChunkBytes, ", but bytes ", kChunkBytes, "..", 2 * kChunkBytes,
                   " are needed; the file became shorter while it was read"));
}

TEST(ReadTensors, AFileThatIsTooShortOrNoFileIsAnErrorBeforeAnythingIsRead) {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  const auto never = [] { ADD_FAILURE() << "a chunk was read"; };
  EXPECT_EQ(message_of([&] { read_w(path, never); }, ErrorCode::CHECKPOINT_MISSING), path + " does not exist");
  std::ofstream(path, std::ios::binary) << std::string(kBytes - 1, 'x');
  EXPECT_EQ(
      message_of([&] { read_w(path, never); }, ErrorCode::CHECKPOINT_INVALID),
      concat(path, " ends at byte ", kBytes - 1, ", but bytes 0..", kBytes, " are needed; the file is truncated"));
}

}  // namespace
}  // namespace mor::test
