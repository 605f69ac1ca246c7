// The ranks of GPUs that train together, as a Communicator.
#pragma once

#include <functional>
#include <memory>

#include "cuda/cuda_ops.h"
#include "cuda/nccl.h"
#include "distributed/communicator.h"

namespace mor::cuda {

/// As mor::make_nccl_communicator, with these functions of NCCL. nccl: gives them, or throws on a rank without NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(CudaOps& ops, HostRanks& host,
                                                     const std::function<const Nccl&()>& nccl);

}  // namespace mor::cuda
