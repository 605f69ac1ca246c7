// OutputFile: a file that is whole and on the disk, or not there. Must not know of any file format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mor::binding {

class OutputFile {
 public:
  /// Creates or empties the file. Every method throws IO_ERROR with the system's reason.
  explicit OutputFile(const std::string& path);
  /// Removes the file unless `finish` has succeeded.
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, size_t bytes);
  /// Waits until everything is on the disk.
  void finish();

 private:
  [[noreturn]] void fail(const char* what, int reason) const;

  std::string path_;
  int descriptor_;
  uint64_t written_ = 0;
  bool finished_ = false;
};

}  // namespace mor::binding
