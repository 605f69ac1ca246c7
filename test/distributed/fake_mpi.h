// FakeMpi: an MPI library inside the test, whose ranks are threads of this process, and which fails when it is told to.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

#include "distributed/mpi_library.h"

namespace mor::test {

/// There is one at a time. Its functions have the names, types and constants of a family's libraries. Messages of up to
/// 64 bytes are taken over at once; longer ones are read from the sender's memory when they are received.
class FakeMpi {
 public:
  static constexpr int kMostRanks = 4, kErrorCode = 77;

  FakeMpi(MpiFamily family, int ranks);
  ~FakeMpi();

  /// What the library of this rank exports.
  Symbols symbols(int rank) const;

  // ---- what goes wrong
  /// This rank's next call of the function returns kErrorCode.
  void fail(int rank, const std::string& function);
  /// This rank's next call does not return before resume().
  void stop(int rank);
  void resume(int rank);
  std::string missing;   ///< a symbol that the library lacks
  int thread_level = 1;  ///< that MPI_Init_thread provides
  int size_of_world;     ///< that ranks are told
  int first_rank = 0;    ///< the rank that rank 0 is told to be
  // Once a rank has called MPI_Abort, every call of every rank returns kErrorCode, since a thread cannot be killed.

  // ---- what happened
  /// By this rank, of any function.
  int64_t calls(int rank);
  int finalized() const { return finalized_; }
  int aborted() const { return aborted_; }
  /// Messages that were sent and not received, and requests that are not done.
  size_t left_over() const { return messages_.size() + requests_.size(); }

 private:
  template <class Handle>
  friend struct FakeFunctions;

  struct Message {
    std::string copy;
    const char* data;
    size_t bytes;
    bool taken = false;
  };
  struct Request {
    bool sends = false, cancelled = false;
    std::shared_ptr<Message> message;  ///< of a send
    std::tuple<int, int, int> route;   ///< from, to, tag
    void* data = nullptr;              ///< of a receive
    size_t bytes = 0;
  };

  /// Begins a call: the lock, after which `code` tells whether the call fails.
  std::unique_lock<std::mutex> call(const char* function, int& code);

  const MpiFamily family_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::pair<int, std::string>> failing_;
  std::set<int> stopped_;
  std::map<int, int64_t> calls_;
  std::map<std::tuple<int, int, int>, std::deque<std::shared_ptr<Message>>> messages_;
  std::map<uint64_t, Request> requests_;
  uint64_t next_request_ = 1;
  int ranks_, initialized_ = 0, finalized_ = 0, aborted_ = 0;
};

}  // namespace mor::test
