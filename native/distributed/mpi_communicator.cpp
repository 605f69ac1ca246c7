// The Communicator over MPI, and the thread that all communicators of this process share.
#include "distributed/mpi_communicator.h"

#include <cstdlib>
#include <mutex>
#include <utility>

#include "distributed/mpi_library.h"
#include "distributed/mpi_operations.h"
#include "distributed/tensor_checks.h"

namespace mor {

namespace {

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MpiThread& thread) : thread_(thread), phase_(thread.enter()) {}
  ~MpiCommunicator() override {
    thread_.leave(phase_);
    thread_.settle(phase_);
  }

  int32_t rank() const override { return thread_.rank(); }
  int32_t size() const override { return thread_.size(); }
  void abandon() override { thread_.leave(phase_); }
  void require_present() override { thread_.require_present(phase_); }

  std::vector<std::string> gather(std::string_view bytes) override {
    std::vector<std::string> all;
    thread_.post(phase_, "gather", [&](MpiExchange& exchange) { all = mpi_gather(exchange, bytes); });
    thread_.wait();
    return all;
  }

  void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) override {
    check_reduce_scatter(size(), values, sum, wire);
    thread_.post(phase_, "reduce_scatter",
                 [=](MpiExchange& exchange) { mpi_reduce_scatter(exchange, values, sum, wire); });
  }

  void all_gather(const Tensor& all) override {
    check_all_gather(size(), all);
    thread_.post(phase_, "all_gather", [=](MpiExchange& exchange) { mpi_all_gather(exchange, all); });
  }

  void wait() override { thread_.wait(); }

 private:
  MpiThread& thread_;
  const uint64_t phase_;
};

/// Made by the first join and never destroyed, because MPI cannot be initialised twice in a process.
MpiThread* the_thread = nullptr;

/// Of the process.
MpiThread& start_thread(const Launcher& launcher, const JoinOptions& options) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (the_thread == nullptr) {
    const char* file = std::getenv("MOR_MPI_LIBRARY");
    if (file != nullptr && *file == 0) file = nullptr;
    the_thread = new MpiThread(open_mpi_library(launcher, file), launcher, options);
    // After the library was opened, so that it is called before what the library does at exit.
    std::atexit([] { the_thread->end(); });
  }
  return *the_thread;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MpiThread& thread) {
  return std::make_unique<MpiCommunicator>(thread);
}

std::unique_ptr<Communicator> join_mpi(const Launcher& launcher, const JoinOptions& options,
                                       const std::function<void()>& check) {
  MpiThread& thread = start_thread(launcher, options);
  thread.wait_for_ranks(check);
  return make_mpi_communicator(thread);
}

}  // namespace mor
