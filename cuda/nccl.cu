// Opens NCCL at run time, so that the package needs it only where several GPUs train together.
#include <dlfcn.h>

#include <type_traits>

#include "core/check.h"
#include "cuda/nccl.h"

namespace mor::cuda {

namespace {

constexpr const char* kFile = "libnccl.so.2";

Nccl load() {
  void* library = dlopen(kFile, RTLD_NOW | RTLD_NODELETE);
  MOR_CHECK(library != nullptr, COMMUNICATION_FAILED, "NCCL cannot be opened: ", dlerror(),
            "; install libnccl2 from NVIDIA's repository, or put the folder of ", kFile, " into LD_LIBRARY_PATH");
  Nccl nccl;
  const auto find = [&](auto*& function, const char* name) {
    void* address = dlsym(library, name);
    MOR_CHECK(address != nullptr, COMMUNICATION_FAILED, kFile, " has no ", name, "; install NCCL 2.14 or newer");
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
  };
  find(nccl.get_unique_id, "ncclGetUniqueId");
  find(nccl.comm_init_rank_config, "ncclCommInitRankConfig");
  find(nccl.comm_abort, "ncclCommAbort");
  find(nccl.comm_destroy, "ncclCommDestroy");
  find(nccl.comm_get_async_error, "ncclCommGetAsyncError");
  find(nccl.get_error_string, "ncclGetErrorString");
  find(nccl.group_start, "ncclGroupStart");
  find(nccl.group_end, "ncclGroupEnd");
  find(nccl.send, "ncclSend");
  find(nccl.recv, "ncclRecv");
  find(nccl.reduce_scatter, "ncclReduceScatter");
  find(nccl.all_gather, "ncclAllGather");
  return nccl;
}

}  // namespace

const Nccl& open_nccl() {
  static const Nccl nccl = load();
  return nccl;
}

}  // namespace mor::cuda
