// OutputFile: a file that is being written, and errors that say why it cannot be.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/file_descriptor.h"

namespace mor {

/// Throws IO_ERROR: `what`, the reason of an `errno`, and what to do where that is known.
[[noreturn]] void fail_io(const std::string& what, int reason);

class OutputFile {
 public:
  enum class Start : uint8_t {
    empty,     ///< the file is created, or emptied
    as_it_is,  ///< it must be there, and keeps what is in it
  };
  /// Every method throws IO_ERROR.
  OutputFile(const std::string& path, Start start);

  void resize(int64_t bytes);
  /// Where the next byte is written; at first, at the beginning.
  void seek(int64_t offset) { offset_ = offset; }
  void write(std::string_view bytes);
  /// Waits until everything is on the disk.
  void sync();

 private:
  const std::string path_;
  const FileDescriptor file_;
  int64_t offset_ = 0;
};

}  // namespace mor
