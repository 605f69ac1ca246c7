// The ranks that find each other at an address and a port, as torchrun and Kubernetes give them, and gather over TCP.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "distributed/communicator.h"
#include "distributed/join_options.h"

namespace mor {

struct TcpOptions : JoinOptions {
  std::string address;  ///< of rank 0's machine
  int port = 0;         ///< a free one there, at which rank 0 listens
  int32_t rank = 0, size = 1;
  bool one_machine = false;  ///< whether all ranks are known to be on that of rank 0
};

/// What every rank tells rank 0, rank 0 tells every other one. It is made for little: an id, counts, norms. A machine
/// that does not answer for silence_seconds is lost; a process that stands still is not noticed. Waits until all ranks
/// have joined. Throws COMMUNICATION_FAILED on every rank that has, naming those that have not come in time, or that
/// say another size or the same rank; and what `check` throws, which is called again and again while it waits.
std::unique_ptr<HostRanks> join_tcp(const TcpOptions& options, const std::function<void()>& check = {});

}  // namespace mor
