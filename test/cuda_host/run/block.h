// The execution model of one CUDA grid on the host: blocks one after another, a thread is a fiber, barriers and warp
// operations are meetings of fibers. Must not know of memory, streams or kernels by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace mor::cuda_host {

struct Dim3 {
  unsigned x, y, z;
};

/// What a GPU would answer with a hang, a trap or undefined values: a deadlock, lanes that meet in different
/// operations, a shuffle from a lane that is not there.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr int kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr int kMaxBarriers = 16;

/// Runs `kernel` once for every thread of every block. Threads of a block run in rising order in one block and in
/// falling order in the next, blocks likewise in one grid and the next, so that code which needs an order shows. Throws
/// KernelError, after every thread's stack has been unwound.
void run_grid(Dim3 grid, Dim3 block, size_t dynamic_shared_bytes, const std::function<void()>& kernel);

/// Whether a kernel is running now.
bool in_kernel();

/// The block's dynamic shared memory: as many bytes as the launch asked for, all ones at the start of every block.
void* dynamic_shared_memory();
/// Ends the kernel with an error if the address lies in dynamic shared memory: an instruction for global memory, such as
/// __stwb, would write somewhere else.
void require_global(const void* address, const char* operation);

/// Number of the running thread in its warp.
int lane();

/// A copy that the running thread has begun but that has not happened yet (cp.async): `copied` bytes, then zeros up to
/// `bytes`. It happens when the thread waits for its group, as late as it may on a GPU.
struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes, copied;
};
void begin_async_copy(const AsyncCopy& copy);
void commit_async_copies();
/// Waits until at most `pending` of the youngest committed groups have not happened.
void wait_async_copies(unsigned pending);

/// Waits until `threads` threads of the block have come to barrier `id`. A thread that has ended never comes.
void barrier_sync(int id, int threads, const char* operation);
/// Threads in a block.
int block_threads();
/// Waits until the lanes of the warp that `mask` names have come. Only the whole warp is taken for ordered by it.
void warp_sync(uint32_t mask);

/// A meeting of the lanes of one warp that `mask` names, each bringing a value; from the constructor's return to the
/// destructor all of their values can be read. All lanes must come, with the same mask, to the same operation.
class Meeting {
 public:
  Meeting(uint32_t mask, const char* operation, const void* value, size_t bytes);
  template <class T>
  Meeting(uint32_t mask, const char* operation, const T& value) : Meeting(mask, operation, &value, sizeof(T)) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxBytes);
  }
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  /// What this lane brought. Throws KernelError if it is not part of the meeting.
  template <class T>
  T from(int other) const {
    T value;
    std::memcpy(&value, bytes_from(other), sizeof(T));
    return value;
  }

  static constexpr size_t kMaxBytes = 128;
  struct State;

 private:
  const void* bytes_from(int other) const;
  State* state_;
};

/// Ends the kernel with an error.
[[noreturn]] void fail(const std::string& message);

}  // namespace mor::cuda_host
