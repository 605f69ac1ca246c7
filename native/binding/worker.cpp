// Worker: the queue and its thread. Must not know of Node, of promises or of what the tasks do.
#include "binding/worker.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

namespace mor::binding {

namespace {

/// Compute threads inherit this from the worker that makes them. The event loop then gets a core as soon as it has
/// something to do, even with every core computing.
constexpr int kNice = 5;

/// Signals are for the threads of Node, but for those that a thread raises by its own instructions. Blocked, SIGXFSZ
/// (a file at its size limit) becomes an error of write() instead of the end of the process.
void block_signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&set, own);
  pthread_sigmask(SIG_SETMASK, &set, nullptr);
}

}  // namespace

Worker::Worker(TaskSink& sink) : sink_(sink), thread_([this] { loop(); }) {}

Worker::~Worker() = default;

bool Worker::post(std::unique_ptr<Task> task) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_ || stopping()) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void Worker::close(std::unique_ptr<Task> last) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_ || stopping()) return;
    closed_ = true;
    tasks_.push_back(std::move(last));
  }
  changed_.notify_one();
}

void Worker::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
  // What is left holds the objects that hold this worker.
  std::deque<std::unique_ptr<Task>> left;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    left.swap(tasks_);
  }
}

void Worker::loop() {
  block_signals();
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  for (;;) {
    std::unique_ptr<Task> task;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || stopping() || !tasks_.empty(); });
      if (stopping() || tasks_.empty()) break;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task->run();
    sink_.deliver(std::move(task));
  }
  sink_.ended(*this);
}

}  // namespace mor::binding
