// Worker: one thread of our own that runs tasks first in, first out, and hands each back when it has run.
// Must not know of Node, of promises or of what the tasks do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace mor::binding {

class Worker;

/// A piece of work. Made, settled and destroyed on the thread of JavaScript (but for what a task posts itself); only
/// `run` is called on the worker's thread.
class Task {
 public:
  virtual ~Task() = default;
  virtual void run() noexcept = 0;
  virtual void settle() = 0;
};

/// Where workers hand things back. Both are called on the worker's thread.
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

  /// From any thread. False once the worker is closed or stopping: the task will not run.
  bool post(std::unique_ptr<Task> task);
  /// Posts `last` and takes no task after it; the thread ends when it has run. Does nothing the second time.
  void close(std::unique_ptr<Task> last);
  /// The thread ends after the task under way, and long tasks that look at `stopping` give up. Tasks that wait are
  /// neither run nor settled.
  void stop();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  /// Waits for the end of the thread, then drops the tasks that never ran. On the thread of JavaScript.
  void join();

 private:
  void loop();

  TaskSink& sink_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Task>> tasks_;
  bool closed_ = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace mor::binding
