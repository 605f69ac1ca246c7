// Clusters on the host: blocks that run together and reach each other's shared memory.
#pragma once

#include <cstdint>

namespace mor::cuda_host {

/// Waits until all threads of the cluster's blocks have called it. A thread that has ended never does.
void cluster_sync();

namespace clusters {

/// Where the place of the running block's dynamic shared memory lies in that of block `rank` of the cluster, for an
/// operation that reaches it. Ends the kernel with an error if there is no such block, or if it has ended.
void* place_in(int rank, const void* address, const char* operation);
/// An agent (order.h) has begun, in this epoch, to use the shared memory of block `rank`, which is not its own. Some
/// thread of that block must have seen the epoch when it ends, or the block may end too early.
void use(int rank, uint32_t agent, uint32_t epoch);

}  // namespace clusters

}  // namespace mor::cuda_host
