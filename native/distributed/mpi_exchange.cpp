// Moves bytes with nonblocking calls, which are tested in turn, with pauses in which the training thread has the core.
#include "distributed/mpi_exchange.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "core/check.h"

namespace mor {

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kChunkBytes = size_t{4} << 20;
/// How long a failed operation waits for MPI to let go of its memory.
constexpr std::chrono::milliseconds kTakeBack{500};

/// How an operation begins: what the ranks compare.
struct Heading {
  uint64_t operation;
  uint64_t bytes;
  char name[48];  ///< ends with 0
};

/// Short pauses while data move, longer ones while other ranks compute.
class Pauses {
 public:
  void after(bool moved) {
    const Clock::time_point now = Clock::now();
    if (moved) {
      last_ = now;
      return;
    }
    std::this_thread::sleep_for(now - last_ < std::chrono::milliseconds(100) ? std::chrono::microseconds(50)
                                                                             : std::chrono::microseconds(1000));
  }

 private:
  Clock::time_point last_ = Clock::now();
};

}  // namespace

std::vector<int32_t> MpiExchange::others() const {
  std::vector<int32_t> ranks;
  for (int32_t i = 1; i < size(); ++i) ranks.push_back((rank() + i) % size());
  return ranks;
}

std::vector<uint64_t> MpiExchange::begin(const std::string& name, uint64_t bytes, bool same_bytes) {
  Heading own{finished_ + 1, bytes, {}};
  name.copy(own.name, sizeof own.name - 1);
  outgoing.resize(sizeof own);
  std::memcpy(outgoing.data(), &own, sizeof own);
  incoming.resize(static_cast<size_t>(size()) * sizeof own);
  const auto place = [&](int32_t peer) { return incoming.data() + static_cast<size_t>(peer) * sizeof own; };
  std::vector<Stream> streams;
  for (const int32_t peer : others()) {
    streams.push_back({peer, outgoing.data(), sizeof own, false});
    streams.push_back({peer, place(peer), sizeof own, true});
  }
  transfer(streams);

  std::vector<uint64_t> all(static_cast<size_t>(size()), bytes);
  for (const int32_t peer : others()) {
    Heading other;
    std::memcpy(&other, place(peer), sizeof other);
    const bool same = std::memcmp(other.name, own.name, sizeof own.name) == 0 && other.operation == own.operation;
    MOR_CHECK(same && (!same_bytes || other.bytes == bytes), COMMUNICATION_FAILED, "operation ", own.operation,
              " of rank ", rank(), " is ", own.name, ", ", bytes, " bytes, but operation ", other.operation,
              " of rank ", peer, " is ", other.name, ", ", other.bytes,
              " bytes; all ranks must make the same calls in the same order");
    all[static_cast<size_t>(peer)] = other.bytes;
  }
  return all;
}

void MpiExchange::transfer(std::vector<Stream>& streams) {
  try {
    Pauses pauses;
    for (;;) {
      MOR_CHECK(!abandoned_, COMMUNICATION_FAILED, "this rank left before the operation was finished");
      bool moved = false, finished = true;
      for (Stream& stream : streams) {
        moved |= advance(stream);
        finished &= stream.moved == stream.bytes;
      }
      if (finished) return;
      peers_.exchange();
      peers_.require_all();
      for (const Stream& stream : streams)
        if (stream.moved < stream.bytes) peers_.require(stream.rank, finished_ + 1);
      pauses.after(moved);
    }
  } catch (...) {
    take_back(streams);
    throw;
  }
}

/// Begins the next chunk, or ends the one that is on its way. Returns whether bytes have moved.
bool MpiExchange::advance(Stream& stream) {
  if (stream.moved == stream.bytes) return false;
  if (stream.chunk == 0) {
    const size_t chunk = std::min(kChunkBytes, stream.bytes - stream.moved);
    char* data = stream.data + stream.moved;
    stream.request = stream.incoming ? mpi_.receive(data, static_cast<int>(chunk), stream.rank, kDataTag)
                                     : mpi_.send(data, static_cast<int>(chunk), stream.rank, kDataTag);
    stream.chunk = static_cast<int>(chunk);
  }
  if (!mpi_.done(stream.request, stream.rank)) return false;
  stream.moved += static_cast<size_t>(std::exchange(stream.chunk, 0));
  if (stream.incoming) peers_.heard(stream.rank);
  return true;
}

void MpiExchange::take_back(std::vector<Stream>& streams) {
  if (mpi_.failed()) return;
  stuck_ = true;
  try {
    for (Stream& stream : streams)
      if (stream.chunk != 0 && stream.incoming) mpi_.cancel(stream.request, stream.rank);
    const Clock::time_point begin = Clock::now();
    bool pending = true;
    while (pending && Clock::now() - begin < kTakeBack) {
      pending = false;
      for (Stream& stream : streams) {
        if (stream.chunk != 0 && mpi_.done(stream.request, stream.rank)) stream.chunk = 0;
        pending |= stream.chunk != 0;
      }
      if (pending) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    stuck_ = pending;
  } catch (const Error&) {  // The error that made this necessary says more.
  }
}

}  // namespace mor
