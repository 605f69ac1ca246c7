// MpiExchange: bytes between this rank and all others at once, for one operation of a communicator.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "distributed/mpi.h"
#include "distributed/mpi_peers.h"

namespace mor {

/// Bytes from or to one rank, a chunk after the other. Bytes of one rank arrive in the order in which they were sent.
struct Stream {
  int32_t rank;
  char* data;
  size_t bytes;
  bool incoming;

  size_t moved = 0;
  int chunk = 0;  ///< bytes on their way; 0: none
  Mpi::Request request = 0;
};

/// Must be used on the communication thread only.
class MpiExchange {
 public:
  MpiExchange(Mpi& mpi, MpiPeers& peers, const std::atomic<bool>& abandoned)
      : mpi_(mpi), peers_(peers), abandoned_(abandoned) {}

  int32_t rank() const { return mpi_.rank(); }
  int32_t size() const { return mpi_.size(); }
  /// The other ranks, beginning with the next one, so that not all ranks send to the same one first.
  std::vector<int32_t> others() const;

  /// Begins the next operation: tells all others what it is, and returns the bytes that each rank gives. Throws
  /// COMMUNICATION_FAILED if another rank called another one; `same_bytes`: or one of another size.
  std::vector<uint64_t> begin(const std::string& name, uint64_t bytes, bool same_bytes);
  /// Returns when all streams have moved. Throws COMMUNICATION_FAILED if a rank is lost or has left, if MPI fails, or
  /// if the operation is abandoned.
  void transfer(std::vector<Stream>& streams);
  void finish() { ++finished_; }
  uint64_t finished() const { return finished_; }

  /// Whether memory of a failed operation may still be read or written by MPI. It must not be called any more then.
  bool stuck() const { return stuck_ || mpi_.failed(); }

  /// Memory for pieces on their way. It is kept as long as MPI may use it.
  std::vector<char> outgoing, incoming;

 private:
  bool advance(Stream& stream);
  void take_back(std::vector<Stream>& streams);

  Mpi& mpi_;
  MpiPeers& peers_;
  const std::atomic<bool>& abandoned_;
  uint64_t finished_ = 0;
  bool stuck_ = false;
};

}  // namespace mor
