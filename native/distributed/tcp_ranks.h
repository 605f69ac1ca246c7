// The ranks that find each other at an address and a port, as torchrun and Kubernetes give them, and gather over TCP.
#pragma once

#include <memory>
#include <string>

#include "distributed/communicator.h"

namespace mor {

struct TcpOptions {
  std::string address;  ///< of rank 0's machine (MASTER_ADDR)
  int port = 0;         ///< a free one there (MASTER_PORT), at which rank 0 listens
  int32_t rank = 0, size = 1;
  double join_seconds = 300;    ///< how long ranks are waited for that have not started
  double silence_seconds = 20;  ///< after which a machine that does not answer is gone
};

/// What every rank tells rank 0, rank 0 tells every other one. It is made for little: an id, counts, norms.
class TcpRanks : public HostRanks {
 public:
  /// Throws COMMUNICATION_FAILED, naming the rank, if one is gone or a gather of one has failed. Does not wait.
  virtual void require_present() = 0;
};

/// Waits until all ranks have joined. Throws COMMUNICATION_FAILED on every rank that has, naming those that have not
/// come in time, or that say another size or the same rank.
std::unique_ptr<TcpRanks> join_tcp(const TcpOptions& options);

}  // namespace mor
