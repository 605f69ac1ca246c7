// Worker: a thread of our own that runs tasks in the order in which they come, and hands each back when it has run.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace mor::binding {

class Worker;

/// A piece of work. `run` is called on the worker's thread; everything else, its destructor too, on JavaScript's.
class Task {
 public:
  virtual ~Task() = default;
  virtual void run() noexcept = 0;
  /// After `run`, with a scope for handles. May throw what a callback of JavaScript throws.
  virtual void settle() {}
};

/// A task that nobody waits for. `work` must not throw.
template <class Work>
std::unique_ptr<Task> task_of(Work work) {
  class Plain final : public Task {
   public:
    explicit Plain(Work work) : work_(std::move(work)) {}
    void run() noexcept override { work_(); }

   private:
    Work work_;
  };
  return std::make_unique<Plain>(std::move(work));
}

/// When a task runs.
enum class Turn : uint8_t {
  in_order,     ///< behind everything that was posted in order before
  alternating,  ///< for work that posts itself again and again: one of these, one of those in order, and so on
  last,         ///< after all others; the worker takes no more tasks and its thread ends
};

/// Where a worker hands things back, on its own thread.
class TaskSink {
 public:
  virtual ~TaskSink() = default;
  virtual void deliver(std::unique_ptr<Task> task) noexcept = 0;
  /// The worker's last act: from now on `join` returns at once.
  virtual void ended(Worker& worker) noexcept = 0;
};

class Worker {
 public:
  /// Starts the thread. The sink must outlive it.
  explicit Worker(TaskSink& sink);
  /// The thread must have been joined.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// From any thread. False once the worker is closed (by a last task) or stopping: then the task will not run.
  bool post(std::unique_ptr<Task> task, Turn turn = Turn::in_order);
  /// Takes a task in order that has not begun out of the queue; null if it has begun.
  std::unique_ptr<Task> take_out(const Task& task);
  /// The thread ends after the task under way, and long tasks that look at `stopping` give up. Tasks that wait are
  /// neither run nor settled.
  void stop();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  /// Waits for the end of the thread, then drops the tasks that never ran. On JavaScript's thread.
  void join();

 private:
  using Queue = std::deque<std::unique_ptr<Task>>;
  void loop();
  /// The next task to run; null to end. Waits for one.
  std::unique_ptr<Task> next();

  TaskSink& sink_;
  std::mutex mutex_;  ///< of everything but the thread
  std::condition_variable changed_;
  Queue in_order_, alternating_;
  std::unique_ptr<Task> last_;
  bool closed_ = false, alternate_ = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace mor::binding
