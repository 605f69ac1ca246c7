// The functions of MPI in the two binary interfaces that its libraries have, and where the libraries are.
#include "distributed/mpi_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "core/check.h"

namespace mor {

namespace {

constexpr int kThreadFunneled = 1;  // MPI_THREAD_FUNNELED: the thread that called MPI_Init_thread makes all calls

void* find(const Symbols& symbols, const std::string& library, const char* name) {
  void* address = symbols(name);
  MOR_CHECK(address != nullptr, COMMUNICATION_FAILED, library, " has no ", name,
            ", so it is no MPI library that can be used; MOR_MPI_LIBRARY may name another");
  return address;
}

/// Open MPI: handles are addresses of objects that the library exports.
struct OpenMpi {
  using Handle = void*;
  static constexpr MpiFamily kFamily = MpiFamily::open_mpi;

  OpenMpi(const Symbols& symbols, const std::string& library)
      : world(find(symbols, library, "ompi_mpi_comm_world")),
        byte(find(symbols, library, "ompi_mpi_byte")),
        errors_return(find(symbols, library, "ompi_mpi_errors_return")) {}

  Handle world, byte, errors_return;
  void* status_ignore = nullptr;
};

/// MPICH and those that keep to its binary interface: handles are numbers.
struct Mpich {
  using Handle = int;
  static constexpr MpiFamily kFamily = MpiFamily::mpich;

  Mpich(const Symbols&, const std::string&) {}

  Handle world = 0x44000000, byte = 0x4c00010d, errors_return = 0x54000001;
  void* status_ignore = reinterpret_cast<void*>(1);
};

template <class Abi>
class MpiOf final : public Mpi {
 public:
  MpiOf(const Symbols& symbols, const std::string& library)
      : library_(concat(library, " (", mpi_family_name(Abi::kFamily), ")")), abi_(symbols, library) {
    const auto set = [&](auto*& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(find(symbols, library, name));
    };
    set(init_thread_, "MPI_Init_thread");
    set(comm_set_errhandler_, "MPI_Comm_set_errhandler");
    set(comm_rank_, "MPI_Comm_rank");
    set(comm_size_, "MPI_Comm_size");
    set(isend_, "MPI_Isend");
    set(irecv_, "MPI_Irecv");
    set(test_, "MPI_Test");
    set(cancel_, "MPI_Cancel");
    set(error_string_, "MPI_Error_string");
    set(finalize_, "MPI_Finalize");
    set(abort_, "MPI_Abort");
  }

  const std::string& library() const override { return library_; }

  void init() override {
    int provided = 0;
    check(init_thread_(nullptr, nullptr, kThreadFunneled, &provided), "MPI_Init_thread");
    check(comm_set_errhandler_(abi_.world, abi_.errors_return), "MPI_Comm_set_errhandler");
    check(comm_rank_(abi_.world, &rank_), "MPI_Comm_rank");
    check(comm_size_(abi_.world, &size_), "MPI_Comm_size");
    MOR_CHECK(provided >= kThreadFunneled, COMMUNICATION_FAILED, library_,
              " was built without support for threads: ", "MPI_Init_thread provides level ", provided, ", but ",
              kThreadFunneled, " is needed; use another build");
  }
  int32_t rank() const override { return rank_; }
  int32_t size() const override { return size_; }

  Request send(const void* data, int bytes, int32_t to, int tag) override {
    Handle request{};
    check(isend_(data, bytes, abi_.byte, to, tag, abi_.world, &request), "MPI_Isend", to);
    return pack(request);
  }
  Request receive(void* data, int bytes, int32_t from, int tag) override {
    Handle request{};
    check(irecv_(data, bytes, abi_.byte, from, tag, abi_.world, &request), "MPI_Irecv", from);
    return pack(request);
  }
  bool done(Request& request, int32_t peer) override {
    Handle handle = unpack(request);
    int flag = 0;
    check(test_(&handle, &flag, abi_.status_ignore), "MPI_Test", peer);
    request = pack(handle);
    return flag != 0;
  }
  void cancel(Request& request, int32_t peer) override {
    Handle handle = unpack(request);
    check(cancel_(&handle), "MPI_Cancel", peer);
  }

  void finalize() override { check(finalize_(), "MPI_Finalize"); }
  void abort() override { check(abort_(abi_.world, 1), "MPI_Abort"); }

 private:
  using Handle = typename Abi::Handle;

  static Request pack(Handle handle) {
    if constexpr (std::is_pointer_v<Handle>)
      return reinterpret_cast<Request>(handle);
    else
      return static_cast<Request>(handle);
  }
  static Handle unpack(Request request) {
    if constexpr (std::is_pointer_v<Handle>)
      return reinterpret_cast<Handle>(request);
    else
      return static_cast<Handle>(request);
  }

  void check(int code, const char* function, int32_t peer = -1) {
    if (code == 0) return;
    failed_ = true;
    char text[8192] = "";  // the longest MPI_MAX_ERROR_STRING is 1024
    int length = 0;
    const bool described = error_string_(code, text, &length) == 0;
    MOR_FAIL(COMMUNICATION_FAILED, function, peer < 0 ? std::string() : concat(" (rank ", peer, ")"), " of ", library_,
             " failed with code ", code, described ? concat(": ", text) : std::string());
  }

  std::string library_;
  Abi abi_;
  int rank_ = 0, size_ = 0;
  int (*init_thread_)(int*, char***, int, int*);
  int (*comm_set_errhandler_)(Handle, Handle);
  int (*comm_rank_)(Handle, int*);
  int (*comm_size_)(Handle, int*);
  int (*isend_)(const void*, int, Handle, int, int, Handle, Handle*);
  int (*irecv_)(void*, int, Handle, int, int, Handle, Handle*);
  int (*test_)(Handle*, int*, void*);
  int (*cancel_)(Handle*);
  int (*error_string_)(int, char*, int*);
  int (*finalize_)();
  int (*abort_)(Handle, int);
};

/// The names of a family's libraries, as the dynamic linker knows them, and the package of Debian and Ubuntu with one.
struct Names {
  std::vector<const char*> files;
  const char* package;
};
Names names_of(MpiFamily family) {
  if (family == MpiFamily::open_mpi) return {{"libmpi.so.40"}, "openmpi-bin"};
  return {{"libmpich.so.12", "libmpi.so.12"}, "mpich"};  // Debian's name, and that of other systems and of Intel MPI
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

/// UCX, by which libraries of both families send, would otherwise rewrite functions of the C library, such as mmap and
/// sbrk, when it is opened. Other threads may run in them then, which is the probable reason why some processes ended
/// by a segmentation fault, and none do without it (docs/distributed.md).
void keep_ucx_from_memory_functions() {
  setenv("UCX_MEM_EVENTS", "n", /*overwrite=*/0);
}

}  // namespace

MpiFamily mpi_family(const Symbols& symbols) {
  return symbols("ompi_mpi_comm_world") != nullptr ? MpiFamily::open_mpi : MpiFamily::mpich;
}

std::unique_ptr<Mpi> make_mpi(const Symbols& symbols, const std::string& library) {
  if (mpi_family(symbols) == MpiFamily::open_mpi) return std::make_unique<MpiOf<OpenMpi>>(symbols, library);
  return std::make_unique<MpiOf<Mpich>>(symbols, library);
}

std::unique_ptr<Mpi> open_mpi_library(const Launcher& launcher, const char* file) {
  keep_ucx_from_memory_functions();
  std::vector<std::string> failures, packages;
  const auto open = [&](const char* name) -> std::unique_ptr<Mpi> {
    // The plug-ins of Open MPI use the library's symbols without being linked to it, so these must be global.
    void* handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
    if (handle == nullptr) {
      failures.emplace_back(dlerror());
      return nullptr;
    }
    const Symbols symbols = [handle](const char* symbol) { return dlsym(handle, symbol); };
    std::unique_ptr<Mpi> mpi = make_mpi(symbols, name);
    const std::vector<MpiFamily>& families = launcher.families;
    MOR_CHECK(std::find(families.begin(), families.end(), mpi_family(symbols)) != families.end(), COMMUNICATION_FAILED,
              launcher.name, " started this process, but the MPI library is ", mpi->library(),
              "; let MOR_MPI_LIBRARY name a library of ", mpi_family_name(families.front()),
              ", or start the ranks by the launcher of ", mpi_family_name(mpi_family(symbols)));
    return mpi;
  };

  if (file != nullptr) {
    if (std::unique_ptr<Mpi> mpi = open(file)) return mpi;
    MOR_FAIL(COMMUNICATION_FAILED, "the MPI library that MOR_MPI_LIBRARY names cannot be opened: ", failures.front(),
             "; name the file of a library, or unset the variable to use the one that the system has");
  }
  for (const MpiFamily family : launcher.families) {
    const Names names = names_of(family);
    for (const char* name : names.files)
      if (std::unique_ptr<Mpi> mpi = open(name)) return mpi;
    packages.push_back(concat("apt-get install ", names.package));
  }
  MOR_FAIL(COMMUNICATION_FAILED, launcher.name,
           " started this process, but its MPI library cannot be opened: ", joined(failures, "; "),
           ". On Debian or Ubuntu: ", joined(packages, ", or "), ". Elsewhere, MOR_MPI_LIBRARY may name the file");
}

}  // namespace mor
