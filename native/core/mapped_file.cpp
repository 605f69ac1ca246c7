// MappedFile by mmap.
#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"
#include "core/file_descriptor.h"

namespace mor {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  MOR_CHECK(file.number >= 0 || errno != ENOENT, CHECKPOINT_MISSING, path, " does not exist");
  MOR_CHECK(file.number >= 0, IO_ERROR, "cannot open ", path, ": ", std::strerror(errno));
  struct stat status {};
  MOR_CHECK(::fstat(file.number, &status) == 0, IO_ERROR, "cannot read the size of ", path, ": ", std::strerror(errno));
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
  MOR_CHECK(mapped != MAP_FAILED, IO_ERROR, "cannot map ", path, ": ", std::strerror(errno));
  data_ = mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

const uint8_t* MappedFile::at(size_t offset, size_t bytes) const {
  MOR_CHECK(offset <= size_ && bytes <= size_ - offset, CHECKPOINT_INVALID, path_, " ends at byte ", size_,
            ", but bytes ", offset, "..", offset + bytes, " are needed; the file is truncated");
  return static_cast<const uint8_t*>(data_) + offset;
}

void MappedFile::forget(size_t offset, size_t bytes) const {
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page, end = (offset + bytes) / page * page;
  if (begin < end) ::madvise(static_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace mor
