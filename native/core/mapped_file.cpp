// MappedFile by mmap.
#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace mor {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  MOR_CHECK(fd >= 0 || errno != ENOENT, CHECKPOINT_MISSING, path, " does not exist");
  MOR_CHECK(fd >= 0, IO_ERROR, "cannot open ", path, ": ", std::strerror(errno));
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    const int reason = errno;
    ::close(fd);
    MOR_FAIL(IO_ERROR, "cannot read the size of ", path, ": ", std::strerror(reason));
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const int reason = errno;
    ::close(fd);
    MOR_CHECK(mapped != MAP_FAILED, IO_ERROR, "cannot map ", path, ": ", std::strerror(reason));
    data_ = mapped;
  } else {
    ::close(fd);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

const uint8_t* MappedFile::at(size_t offset, size_t bytes) const {
  MOR_CHECK(offset <= size_ && bytes <= size_ - offset, CHECKPOINT_INVALID, path_, " ends at byte ", size_,
            ", but bytes ", offset, "..", offset + bytes, " are needed; the file is truncated");
  return static_cast<const uint8_t*>(data_) + offset;
}

}  // namespace mor
