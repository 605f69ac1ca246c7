// InputFile: a file that is being read, and errors that say why it cannot be.
#pragma once

#include <cstdint>
#include <string>

#include "core/file_descriptor.h"

namespace mor {

/// It reads by calls: memory that a file is mapped to would end the process where the disk fails, or where another
/// process shortens the file.
class InputFile {
 public:
  /// Throws CHECKPOINT_MISSING if the file is not there, IO_ERROR with the system's reason otherwise.
  explicit InputFile(const std::string& path);

  /// Throws CHECKPOINT_INVALID if the file ends before byte offset + bytes, and IO_ERROR.
  void check_holds(int64_t offset, int64_t bytes) const;
  /// Bytes [offset, offset + bytes). Throws likewise.
  void read(int64_t offset, int64_t bytes, void* into) const;

 private:
  const std::string path_;
  const FileDescriptor file_;
};

}  // namespace mor
