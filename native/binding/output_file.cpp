// OutputFile over POSIX. Must not know of any file format.
#include "binding/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mor::binding {

OutputFile::OutputFile(const std::string& path)
    : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail("cannot create", errno);
}

OutputFile::~OutputFile() {
  struct stat status {};
  const bool regular = ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode);
  ::close(descriptor_);
  if (!finished_ && regular) ::unlink(path_.c_str());  // a device or a pipe is not ours to remove
}

void OutputFile::write(const void* data, size_t bytes) {
  const auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(descriptor_, at, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot write", errno);
    at += n;
    bytes -= static_cast<size_t>(n);
    written_ += static_cast<uint64_t>(n);
  }
}

void OutputFile::finish() {
  // Some devices cannot sync; some disks report a failed write only here.
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail("cannot sync", errno);
  finished_ = true;
}

void OutputFile::fail(const char* what, int reason) const {
  const bool full = reason == ENOSPC || reason == EDQUOT;
  MOR_FAIL(IO_ERROR, what, " ", path_, " after ", written_, " bytes: ", std::strerror(reason),
           full ? "; free some space on that disk, then try again" : "");
}

}  // namespace mor::binding
