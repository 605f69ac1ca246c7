// MappedFile: a file mapped read-only, for loading weights without a second copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace mor {

class MappedFile {
 public:
  /// Throws CHECKPOINT_MISSING if the file is not there, IO_ERROR with the system's reason otherwise.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Bytes [offset, offset + bytes); throws CHECKPOINT_INVALID if the file ends before.
  const uint8_t* at(size_t offset, size_t bytes) const;
  /// Gives up the memory of bytes that have been read. They can be read again.
  void forget(size_t offset, size_t bytes) const;

 private:
  std::string path_;
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace mor
