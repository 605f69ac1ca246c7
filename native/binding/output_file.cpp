// OutputFile over POSIX.
#include "binding/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mor::binding {

void fail_io(const std::string& what, int reason) {
  const bool full = reason == ENOSPC || reason == EDQUOT;
  const bool forbidden = reason == EACCES || reason == EPERM || reason == EROFS;
  MOR_FAIL(IO_ERROR, what, ": ", std::strerror(reason),
           full        ? "; free some space on that disk, then try again"
           : forbidden ? "; check the folder's permissions"
                       : "");
}

OutputFile::OutputFile(const std::string& path)
    : path_(path), file_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
  if (file_.number < 0) fail_io("cannot create " + path_, errno);
}

void OutputFile::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(file_.number, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(concat("cannot write ", path_, " after ", written_, " bytes"), errno);
    bytes.remove_prefix(static_cast<size_t>(n));
    written_ += static_cast<uint64_t>(n);
  }
}

void OutputFile::sync() {
  // Some devices cannot sync; some disks report a failed write only here.
  if (::fsync(file_.number) != 0 && errno != EINVAL) fail_io("cannot sync " + path_, errno);
}

}  // namespace mor::binding
