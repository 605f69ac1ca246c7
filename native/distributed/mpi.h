// Mpi: the calls of an MPI library that a communicator makes, whichever library gives them.
#pragma once

#include <cstdint>
#include <string>

namespace mor {

/// All calls are made on one thread. Those that fail throw COMMUNICATION_FAILED, naming the function of MPI, the rank
/// and what the library says.
class Mpi {
 public:
  /// An MPI_Request that is not done.
  using Request = std::uintptr_t;

  virtual ~Mpi() = default;
  /// For messages: file and family, such as "libmpi.so.40 (Open MPI)".
  virtual const std::string& library() const = 0;

  /// Waits until all ranks have called it.
  virtual void init() = 0;
  virtual int32_t rank() const = 0;
  virtual int32_t size() const = 0;

  /// The bytes must stay where they are until the request is done.
  virtual Request send(const void* data, int bytes, int32_t to, int tag) = 0;
  virtual Request receive(void* data, int bytes, int32_t from, int tag) = 0;
  /// Whether the request of a message from or to `peer` is done; if so, it must not be used again.
  virtual bool done(Request& request, int32_t peer) = 0;
  /// Asks to give up a receive. It must be tested until it is done, which it may never be if its message has begun.
  virtual void cancel(Request& request, int32_t peer) = 0;

  /// Waits until all ranks have called it. No call may follow.
  virtual void finalize() = 0;
  /// Ends the processes of all ranks, this one included.
  virtual void abort() = 0;

  /// Whether a call failed. The standard leaves open what MPI can still do then.
  bool failed() const { return failed_; }

 protected:
  bool failed_ = false;
};

}  // namespace mor
