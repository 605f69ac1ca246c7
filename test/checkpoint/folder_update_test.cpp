// Tests of FolderUpdate with calls of the C library that are watched and made to fail: what has been synced before the
// files are renamed, and what is left where one of them cannot be.
#include "checkpoint/folder_update.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "checkpoint/output_file.h"
#include "core/check.h"
#include "test/checkpoint/support.h"
#include "test/error_message.h"

namespace mor::test {
namespace {

std::vector<std::string> synced;  ///< paths, as they were when they were synced
std::string cannot_replace;       ///< no file can be renamed to this path

}  // namespace
}  // namespace mor::test

// In place of those of the C library.
extern "C" int fsync(int file) {
  mor::test::synced.push_back(std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(file)));
  return static_cast<int>(syscall(SYS_fsync, file));
}
extern "C" int rename(const char* from, const char* to) noexcept {
  if (to != mor::test::cannot_replace) return renameat(AT_FDCWD, from, AT_FDCWD, to);
  errno = EIO;
  return -1;
}

namespace mor::test {
namespace {

void write(FolderUpdate& update, const std::vector<std::string>& names, const std::string& content) {
  for (const std::string& name : names) {
    OutputFile file(update.path(name), OutputFile::Start::empty);
    file.write(content);
    file.sync();
  }
}

void save(const std::string& folder, const std::string& content,
          const std::vector<std::string>& names = {"a", "b", "c"}) {
  FolderUpdate update(folder);
  write(update, names, content);
  update.commit();
}

size_t place_of(const std::string& path) {
  const auto found = std::find(synced.begin(), synced.end(), path);
  EXPECT_NE(found, synced.end()) << path << " was not synced";
  return static_cast<size_t>(found - synced.begin());
}

/// Else a power failure may leave a complete update without some of its files, and its rest would be put into place.
TEST(FolderUpdate, FilesAndTheirNamesAreOnTheDiskBeforeAnyIsReplaced) {
  TemporaryFolder folder;
  const std::string it = folder / "new/it";
  synced.clear();
  FolderUpdate update(it);
  const std::string staging = it + "/" + update.staging();
  write(update, {"a", "b"}, "after");
  update.commit();
  EXPECT_LT(place_of(staging + "/a"), place_of(staging));
  EXPECT_LT(place_of(staging + "/b"), place_of(staging));
  EXPECT_LT(place_of(staging), place_of(it));
}

/// Else a power failure may take the folder away.
TEST(FolderUpdate, FoldersThatAreMadeAreOnTheDisk) {
  TemporaryFolder folder;
  synced.clear();
  save(folder / "new/it", "it");
  EXPECT_EQ(std::count(synced.begin(), synced.end(), folder / "new"), 1);
  EXPECT_EQ(std::count(synced.begin(), synced.end(), fs::path(folder / "new").parent_path()), 1);
}

TEST(FolderUpdate, AFolderInThePlaceOfAFileLeavesAllAsItIs) {
  TemporaryFolder folder;
  const std::string it = folder / "it";
  save(it, "before");
  fs::remove(it + "/b");
  fs::create_directory(it + "/b");
  const Files before = files_in(it);
  const std::string message = message_of([&] { save(it, "after"); }, ErrorCode::IO_ERROR);
  EXPECT_EQ(message, "cannot replace " + it + "/b: Is a directory");
  EXPECT_TRUE(files_in(it) == before);
}

TEST(FolderUpdate, AnUpdateThatFailsBetweenTwoRenamesIsFinishedByTheNext) {
  TemporaryFolder folder;
  const std::string it = folder / "it";
  save(it, "before");
  cannot_replace = it + "/b";
  const std::string message = message_of([&] { save(it, "after"); }, ErrorCode::IO_ERROR);
  cannot_replace.clear();
  EXPECT_EQ(message, "cannot replace " + it + "/b: Input/output error");
  save(it, "next", {"d"});
  EXPECT_EQ(files_in(it), (Files{{"a", "after"}, {"b", "after"}, {"c", "after"}, {"d", "next"}}));
}

TEST(FolderUpdate, AnUpdateOfWhichNothingCanBeReplacedLeavesAllAsItIs) {
  TemporaryFolder folder;
  const std::string it = folder / "it";
  save(it, "before");
  const Files before = files_in(it);
  cannot_replace = it + "/a";
  EXPECT_THROW(save(it, "after"), Error);
  cannot_replace.clear();
  EXPECT_TRUE(files_in(it) == before);
}

}  // namespace
}  // namespace mor::test
