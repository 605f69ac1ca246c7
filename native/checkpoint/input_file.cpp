// InputFile over POSIX.
#include "checkpoint/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "checkpoint/output_file.h"
#include "core/check.h"

namespace mor {

InputFile::InputFile(const std::string& path) : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  MOR_CHECK(file_.number >= 0 || errno != ENOENT, CHECKPOINT_MISSING, path_, " does not exist");
  if (file_.number < 0) fail_io("cannot open " + path_, errno);
}

void InputFile::check_holds(int64_t offset, int64_t bytes) const {
  struct stat status {};
  if (::fstat(file_.number, &status) != 0) fail_io("cannot read the size of " + path_, errno);
  MOR_CHECK(offset <= status.st_size && bytes <= status.st_size - offset, CHECKPOINT_INVALID, path_, " ends at byte ",
            status.st_size, ", but bytes ", offset, "..", offset + bytes, " are needed; the file is truncated");
}

void InputFile::read(int64_t offset, int64_t bytes, void* into) const {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t n =
        ::pread(file_.number, static_cast<char*>(into) + done, static_cast<size_t>(bytes - done), offset + done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_io(concat("cannot read ", path_, " from byte ", offset + done), errno);
    MOR_CHECK(n > 0, CHECKPOINT_INVALID, path_, " has no byte ", offset + done, ", but bytes ", offset, "..",
              offset + bytes, " are needed; the file became shorter while it was read");
    done += n;
  }
}

}  // namespace mor
