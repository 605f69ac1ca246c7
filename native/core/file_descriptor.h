// FileDescriptor: an open file of the operating system, closed when it goes.
#pragma once

#include <unistd.h>

namespace mor {

struct FileDescriptor {
  explicit FileDescriptor(int opened) : number(opened) {}
  ~FileDescriptor() {
    if (number >= 0) ::close(number);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  const int number;  ///< negative if the file could not be opened
};

}  // namespace mor
