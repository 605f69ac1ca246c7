// Nccl: the functions of NCCL that a communicator between GPUs calls. The library is opened when the first one is made.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace mor::cuda {

/// An ncclUniqueId: what one rank makes and all ranks of a communicator are given.
struct NcclId {
  char bytes[128];
};

/// An ncclConfig_t as of NCCL 2.14, which later ones take too. A call of a communicator that is not blocking may return
/// before it is done, so that its caller can look after other things, and give up.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef, version = 21400;
  int blocking = 0;
};

/// The functions return an ncclResult_t, 0 if they succeeded. Types of elements are ncclDataType_t.
struct Nccl {
  using Comm = void*;
  static constexpr int kUint8 = 1, kFloat32 = 7, kBfloat16 = 9;  // ncclDataType_t
  static constexpr int kSum = 0;                                 // ncclRedOp_t
  static constexpr int kInProgress = 7;                          // ncclResult_t: no error, but not done

  int (*get_unique_id)(NcclId*);
  int (*comm_init_rank_config)(Comm*, int ranks, NcclId, int rank, NcclConfig*);
  int (*comm_abort)(Comm);
  int (*comm_destroy)(Comm);
  int (*comm_get_async_error)(Comm, int*);
  const char* (*get_error_string)(int);
  int (*group_start)();
  int (*group_end)();
  int (*send)(const void*, size_t count, int type, int peer, Comm, cudaStream_t);
  int (*recv)(void*, size_t count, int type, int peer, Comm, cudaStream_t);
  int (*reduce_scatter)(const void*, void*, size_t count_of_one, int type, int op, Comm, cudaStream_t);
  int (*all_gather)(const void*, void*, size_t count_of_one, int type, Comm, cudaStream_t);
};

/// The functions of libnccl.so.2, which stays open. Throws COMMUNICATION_FAILED if it is not there or lacks one of
/// them.
const Nccl& open_nccl();

}  // namespace mor::cuda
