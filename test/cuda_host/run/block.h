// The execution model of a CUDA grid on the host: blocks run one after another, or the blocks of a cluster together. A
// thread is a fiber, and fibers meet in barriers and warp operations.
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

/// An error of a kernel that on a GPU leads to a hang, a trap or undefined values: a deadlock, lanes that meet in
/// different operations, a shuffle from a lane that does not exist.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

constexpr int kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr int kMaxBarriers = 16;

/// Runs `kernel` once for every thread of every block. The order of threads is rising in one block and falling in the
/// next, and so is that of blocks from grid to grid, to find code that depends on an order. cluster: so many blocks, 1
/// or 2, which are neighbours in x, run together; their shared memory must be dynamic. early: whether the kernel may
/// run before the one in front of it has ended; then each thread must call wait_for_earlier_kernels, and access device
/// memory only after it. Throws KernelError after it has unwound the stack of every thread.
void run_grid(Dim3 grid, Dim3 block, size_t dynamic_shared_bytes, int cluster, bool early,
              const std::function<void()>& kernel);

/// From here on the running thread may access device memory.
void wait_for_earlier_kernels();
/// Ends the kernel with an error if the running thread has not waited.
void require_wait(const char* operation);

/// Whether a kernel is running now.
bool in_kernel();

/// The block's dynamic shared memory, of the size that the launch gives. Every bit is 1 when a block begins.
void* dynamic_shared_memory();
/// Ends the kernel with an error if the address lies in dynamic shared memory, because `operation` is an instruction
/// for global memory.
void require_global(const void* address, const char* operation);

/// The address of a place in dynamic shared memory that instructions know it by; an error for other places.
uint64_t shared_address(const void* address);

/// The number of the running thread in its warp.
int lane();

/// A copy that a thread has begun but that is not done yet (cp.async): `copied` bytes, then zeros up to `bytes`. It is
/// done when the thread waits for its group, which is the latest moment that a GPU allows.
struct AsyncCopy {
  void* to;
  const void* from;
  unsigned bytes, copied;
};
void begin_async_copy(const AsyncCopy& copy);
void commit_async_copies();
/// Does the copies of all committed groups but the `pending` youngest.
void wait_async_copies(unsigned pending);

/// Waits until `threads` threads of the block have arrived at barrier `id`. A thread that has ended never arrives.
void barrier_sync(int id, int threads, const char* operation);
/// The thread arrives likewise, and does not wait.
void barrier_arrive(int id, int threads, const char* operation);
/// How many threads the block has.
int block_threads();
/// Waits until the lanes of the warp in `mask` have arrived. The race detector takes accesses as ordered only if the
/// mask is the whole warp.
void warp_sync(uint32_t mask);

/// A meeting of the lanes of one warp in `mask`, each with a value. All of their values can be read from the return of
/// the constructor until the destructor. All lanes must arrive at the same operation with the same mask.
class Meeting {
 public:
  static constexpr size_t kMaxBytes = 128;
  using Values = uint8_t[kWarpSize][kMaxBytes];  ///< by lane
  /// finish: what the last lane to arrive does to the values before any lane reads them; null: nothing.
  Meeting(uint32_t mask, const char* operation, const void* value, size_t bytes, void (*finish)(Values&) = nullptr);
  template <class T>
  Meeting(uint32_t mask, const char* operation, const T& value) : Meeting(mask, operation, &value, sizeof(T)) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kMaxBytes);
  }
  ~Meeting();
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  /// The value of lane `other`. Throws KernelError if the lane is not in the mask.
  template <class T>
  T from(int other) const {
    T value;
    std::memcpy(&value, bytes_from(other), sizeof(T));
    return value;
  }

  struct State;

 private:
  const void* bytes_from(int other) const;
  State* state_;
};

/// Throws KernelError with the message, and with the running thread's index.
[[noreturn]] void fail(const std::string& message);

}  // namespace mor::cuda_host
