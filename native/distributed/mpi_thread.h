// MpiThread: the one thread of a process that calls MPI, from joining the other ranks to leaving them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "distributed/join_options.h"
#include "distributed/launcher.h"
#include "distributed/mpi.h"
#include "distributed/mpi_exchange.h"

namespace mor {

/// An operation has no thread of its own: MPI libraries are fastest, and all are able to work, if one thread calls
/// them. Once something fails, every later call throws what failed first, until the process ends.
class MpiThread {
 public:
  /// Starts the thread. mpi: is initialised there, because MPI must be used by the thread that did this.
  MpiThread(std::unique_ptr<Mpi> mpi, Launcher launcher, const JoinOptions& options);
  /// Calls end() and waits for the thread.
  ~MpiThread();
  MpiThread(const MpiThread&) = delete;
  MpiThread& operator=(const MpiThread&) = delete;

  /// Waits until all ranks have initialised MPI. Throws COMMUNICATION_FAILED after join_seconds, or if the ranks are
  /// not those of the launcher. `check`, if there is one, is called again and again while it waits, and ends that by
  /// throwing.
  void wait_for_ranks(const std::function<void()>& check = {});
  int32_t rank() const { return launcher_.rank; }
  int32_t size() const { return launcher_.size; }

  /// A communicator begins, and gets the phase in which it may post. Throws COMMUNICATION_FAILED if there is one.
  uint64_t enter();
  /// It ends, and other ranks learn it. Operations that are not finished are given up: they fail on the other ranks
  /// too. Returns at once, and does nothing the second time.
  void leave(uint64_t phase);
  /// Returns when no operation of a communicator that has left uses its memory.
  void settle(uint64_t phase);

  /// Runs operations in the order of the calls. name: for errors. Throws COMMUNICATION_FAILED once the communicator has
  /// left.
  void post(uint64_t phase, std::string name, std::function<void(MpiExchange&)> run);
  /// Returns when all that was posted is done.
  void wait();
  /// Throws COMMUNICATION_FAILED if something has failed, or if this rank or another one has left.
  void require_present(uint64_t phase);

  /// Waits until all ranks have called it, or are lost. Then MPI is finalised; or, if ranks are lost, their processes
  /// and this one are ended, so that none stands still for ever. For the end of the process.
  void end();

 private:
  struct Operation {
    std::string name;
    std::function<void(MpiExchange&)> run;
  };

  void run();
  void start();
  void work();
  void run_first(std::unique_lock<std::mutex>& lock);
  void finish();
  void throw_failure() const;

  const std::unique_ptr<Mpi> mpi_;
  const Launcher launcher_;
  const JoinOptions options_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Operation> queue_;  ///< the first one runs
  std::string failure_;          ///< empty: none
  uint64_t phase_ = 0;           ///< RankState::phase
  int32_t gone_ = -1;            ///< a rank that has left what this one still takes part in; -1: none
  bool joined_ = false, ending_ = false, finalizing_ = false, ended_ = false;
  std::atomic<bool> abandoned_ = false;

  std::unique_ptr<MpiPeers> peers_;        ///< of the thread only
  std::unique_ptr<MpiExchange> exchange_;  ///< of the thread only
  std::thread thread_;
};

}  // namespace mor
