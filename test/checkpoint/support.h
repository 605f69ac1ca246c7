// What the tests of checkpoints share: a folder that goes with the test, and what is in folders.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace mor::test {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = fs::temp_directory_path() / "mor-checkpoint-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

/// Contents by name; of folders, nothing.
using Files = std::map<std::string, std::string>;
inline Files files_in(const std::string& folder) {
  Files files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    std::string& content = files[entry.path().filename()];
    if (entry.is_directory()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    content = {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  return files;
}

}  // namespace mor::test
