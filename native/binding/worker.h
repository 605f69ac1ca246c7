// Worker: a thread that runs tasks one after another and hands each one back when it has run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace mor::binding {

class Worker;

/// A piece of work. Its `run` is called on the worker's thread; all else, the destructor too, on JavaScript's.
class Task {
 public:
  virtual ~Task() = default;
  virtual void run() noexcept = 0;
  /// Called after `run`, with a handle scope. May throw what a callback of JavaScript throws.
  virtual void settle() {}
};

/// A task that runs `work`, which must not throw, and nothing else.
template <class Work>
std::unique_ptr<Task> task_of(Work work) {
  struct Plain final : Task {
    explicit Plain(Work w) : work(std::move(w)) {}
    void run() noexcept override { work(); }
    Work work;
  };
  return std::make_unique<Plain>(std::move(work));
}

/// When a posted task runs.
enum class Turn : uint8_t {
  in_order,     ///< after all tasks that were posted with in_order before
  alternating,  ///< as in_order among themselves; where both kinds wait, they take turns
  last,         ///< after all others; the worker takes no more tasks, and its thread ends
};

/// Where a worker hands tasks back. It calls both methods on its own thread.
class TaskSink {
 public:
  virtual ~TaskSink() = default;
  virtual void deliver(std::unique_ptr<Task> task) noexcept = 0;
  /// The last thing that the worker does: from now on `join` returns at once.
  virtual void ended(Worker& worker) noexcept = 0;
};

/// Its thread must have been joined before it is destroyed.
class Worker {
 public:
  /// Starts the thread. The sink must outlive it.
  explicit Worker(TaskSink& sink);

  /// From any thread. Returns false once the worker stops or has been given its last task: then the task will not run.
  bool post(std::unique_ptr<Task> task, Turn turn = Turn::in_order);
  /// Takes a task that was posted with in_order out of the queue. Returns null if it has begun.
  std::unique_ptr<Task> take_out(const Task& task);
  /// The thread ends after the task that runs; long tasks look at `stopping` and give up. Tasks that wait are neither
  /// run nor settled.
  void stop();
  /// What `stop` calls, on JavaScript's thread: it ends what tasks of this or other workers may wait for.
  void on_stop(std::function<void()> call) { on_stop_ = std::move(call); }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  /// Waits for the end of the thread, then drops the tasks that never ran. On JavaScript's thread.
  void join();

 private:
  using Queue = std::deque<std::unique_ptr<Task>>;
  void loop();
  /// Waits for the next task. Returns null where the thread is to end.
  std::unique_ptr<Task> next();

  TaskSink& sink_;
  std::mutex mutex_;  ///< of everything but the thread
  std::condition_variable changed_;
  Queue in_order_, alternating_;
  std::unique_ptr<Task> last_;
  bool closed_ = false, alternate_ = false;
  std::atomic<bool> stopping_{false};
  std::function<void()> on_stop_;  ///< of JavaScript's thread
  std::thread thread_;
};

}  // namespace mor::binding
