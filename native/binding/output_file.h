// OutputFile: a file that is being written, and errors that say why it cannot be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/file_descriptor.h"

namespace mor::binding {

/// Throws IO_ERROR: `what`, the reason of an `errno`, and what to do where that is known.
[[noreturn]] void fail_io(const std::string& what, int reason);

class OutputFile {
 public:
  /// Creates or empties the file. Every method throws IO_ERROR.
  explicit OutputFile(const std::string& path);

  void write(std::string_view bytes);
  /// Waits until everything is on the disk.
  void sync();

 private:
  const std::string path_;
  const FileDescriptor file_;
  uint64_t written_ = 0;
};

}  // namespace mor::binding
