// OutputFile over POSIX.
#include "checkpoint/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mor {

void fail_io(const std::string& what, int reason) {
  const bool full = reason == ENOSPC || reason == EDQUOT;
  const bool forbidden = reason == EACCES || reason == EPERM || reason == EROFS;
  MOR_FAIL(IO_ERROR, what, ": ", std::strerror(reason),
           full        ? "; free some space on that disk, then try again"
           : forbidden ? "; check the folder's permissions"
                       : "");
}

OutputFile::OutputFile(const std::string& path, Start start)
    : path_(path),
      file_(::open(path.c_str(), O_WRONLY | O_CLOEXEC | (start == Start::empty ? O_CREAT | O_TRUNC : 0), 0666)) {
  if (file_.number < 0) fail_io((start == Start::empty ? "cannot create " : "cannot write ") + path_, errno);
}

void OutputFile::resize(int64_t bytes) {
  if (::ftruncate(file_.number, bytes) != 0) fail_io(concat("cannot give ", path_, " ", bytes, " bytes"), errno);
}

void OutputFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(file_.number, bytes.data(), bytes.size(), offset_);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(concat("cannot write ", path_, " after ", offset_, " bytes"), errno);
    bytes.remove_prefix(static_cast<size_t>(n));
    offset_ += n;
  }
}

void OutputFile::sync() {
  // Some devices cannot sync; some disks report a failed write only here.
  if (::fsync(file_.number) != 0 && errno != EINVAL) fail_io("cannot sync " + path_, errno);
}

}  // namespace mor
