// FolderUpdate over POSIX.
#include "checkpoint/folder_update.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <mutex>
#include <system_error>

#include "checkpoint/output_file.h"
#include "core/file_descriptor.h"

namespace mor {

namespace fs = std::filesystem;

namespace {

/// Makes the folder, and those around it that are missing. Returns those in which one was made.
std::vector<fs::path> make_folder(const fs::path& folder) {
  std::error_code error, ignored;
  std::vector<fs::path> around;
  for (fs::path made = fs::absolute(folder, ignored); made.has_relative_path() && !fs::exists(made, ignored);
       made = made.parent_path())
    around.push_back(made.parent_path());
  fs::create_directories(folder, error);
  if (error) fail_io("cannot create the folder " + folder.string(), error.value());
  return around;
}

const std::string kPrefix = ".saving-", kComplete = ".saved-";

std::vector<fs::path> entries_with(const fs::path& folder, const std::string& prefix) {
  std::error_code ignored;
  std::vector<fs::path> found;
  for (fs::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored))
    if (entry->path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry->path());
  return found;
}

/// Another process that finds them may do the same at the same time.
void put_into_place(const fs::path& file, const fs::path& target) {
  if (::rename(file.c_str(), target.c_str()) == 0) return;
  const int error = errno;
  std::error_code ignored;
  if (error != ENOENT || !fs::exists(target, ignored)) fail_io("cannot replace " + target.string(), error);
}

/// A descriptor that holds the lock of a folder as long as it is open; negative if another one holds it, or the file
/// system has no locks.
int locked(const fs::path& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0 || ::flock(file, LOCK_EX | LOCK_NB) == 0) return file;
  ::close(file);
  return -1;
}

void check_replaceable(const fs::path& target) {
  std::error_code ignored;
  if (fs::is_directory(target, ignored)) fail_io("cannot replace " + target.string(), EISDIR);
}

/// Makes names and renames durable.
void sync_folder(const fs::path& folder) {
  const FileDescriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.number >= 0 && ::fsync(file.number) == 0) return;
  // Some file systems cannot sync folders, and nobody can sync a folder that he may not read.
  if (errno != EINVAL && errno != EACCES) fail_io("cannot sync the folder " + folder.string(), errno);
}

}  // namespace

FolderUpdate::FolderUpdate(const std::string& folder)
    : folder_(folder), grown_(make_folder(folder_)), made_folder_(!grown_.empty()), lock_(make_staging()) {
  if (lock_.number >= 0) remove_abandoned();
}

int FolderUpdate::make_staging() {
  std::string name = folder_ / (kPrefix + "XXXXXX");
  if (::mkdtemp(name.data()) == nullptr) {
    const int reason = errno;
    if (made_folder_) ::rmdir(folder_.c_str());
    fail_io("cannot create a folder in " + folder_.string(), reason);
  }
  staging_ = name;
  return locked(staging_);
}

void FolderUpdate::remove_abandoned() const {
  // A folder this young may be one whose lock has yet to be taken.
  constexpr std::chrono::minutes kYoung(1);
  std::error_code ignored;
  for (const fs::path& path : entries_with(folder_, kPrefix)) {
    const auto age = fs::file_time_type::clock::now() - fs::last_write_time(path, ignored);
    if (ignored || age < kYoung) continue;
    const FileDescriptor lock(locked(path));
    if (lock.number >= 0) fs::remove_all(path, ignored);
  }
}

FolderUpdate::~FolderUpdate() {
  std::error_code ignored;
  if (!half_done_) fs::remove_all(staging_, ignored);
  if (made_folder_) ::rmdir(folder_.c_str());  // fails where something else is in it
}

std::string FolderUpdate::path(const std::string& name) {
  names_.push_back(name);
  return staging_ / name;
}

void FolderUpdate::replaces(const std::string& index) {
  replaced_indexes_.push_back(index);
}

void FolderUpdate::commit() {
  static std::mutex one_at_a_time;
  {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    finish_others();
    for (const std::string& name : names_) check_replaceable(folder_ / name);
    sync_folder(staging_);
    const fs::path complete = folder_ / (kComplete + staging().substr(kPrefix.size()));
    std::error_code error;
    fs::rename(staging_, complete, error);
    if (error) fail_io("cannot rename " + staging_.string(), error.value());
    staging_ = complete;
    sync_folder(folder_);
    for (const std::string& name : names_) {
      put_into_place(staging_ / name, folder_ / name);
      half_done_ = true;
      made_folder_ = false;
    }
    half_done_ = false;
    for (const std::string& index : replaced_indexes_) remove_indexed(index);
  }
  sync_folder(folder_);
  for (const fs::path& folder : grown_) sync_folder(folder);
}

void FolderUpdate::finish_others() const {
  std::error_code ignored;
  for (const fs::path& folder : entries_with(folder_, kComplete)) {
    for (const fs::path& file : entries_with(folder, "")) put_into_place(file, folder_ / file.filename());
    fs::remove(folder, ignored);
  }
}

/// The index goes last: if the process ends before, the next save still finds in it what is to be removed.
void FolderUpdate::remove_indexed(const std::string& index) const {
  const fs::path path = folder_ / index;
  std::ifstream file(path, std::ios::binary);
  if (!file) return;
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto is_shard = [&](const fs::path& found) {
    const std::string name = found.filename();
    const bool is_new = std::find(names_.begin(), names_.end(), name) != names_.end();
    return !is_new && found.extension() == ".safetensors" && text.find('"' + name + '"') != std::string::npos;
  };
  try {
    std::vector<fs::path> shards;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_))
      if (is_shard(entry.path())) shards.push_back(entry.path());
    for (const fs::path& shard : shards) fs::remove(shard);
    fs::remove(path);
  } catch (const fs::filesystem_error& error) {
    fail_io("the save is complete, but cannot remove what it replaces: " + error.path1().string(),
            error.code().value());
  }
}

}  // namespace mor
