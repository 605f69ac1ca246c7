// Worker: the queues and the thread.
#include "binding/worker.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

namespace mor::binding {

namespace {

/// The threads of Node handle signals; a worker keeps only those that its own instructions raise. With SIGXFSZ blocked,
/// a file at its size limit is an error of write() and does not end the process.
void block_signals() {
  sigset_t set;
  sigfillset(&set);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&set, own);
  pthread_sigmask(SIG_SETMASK, &set, nullptr);
}

}  // namespace

Worker::Worker(TaskSink& sink) : sink_(sink), thread_([this] { loop(); }) {}

bool Worker::post(std::unique_ptr<Task> task, Turn turn) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_ || stopping()) return false;
    closed_ = turn == Turn::last;
    if (closed_)
      last_ = std::move(task);
    else
      (turn == Turn::alternating ? alternating_ : in_order_).push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

std::unique_ptr<Task> Worker::take_out(const Task& task) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found =
      std::find_if(in_order_.begin(), in_order_.end(), [&](const auto& waiting) { return waiting.get() == &task; });
  if (found == in_order_.end()) return nullptr;
  std::unique_ptr<Task> taken = std::move(*found);
  in_order_.erase(found);
  return taken;
}

void Worker::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (on_stop_) on_stop_();
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
  in_order_.clear();
  alternating_.clear();
  last_.reset();
}

std::unique_ptr<Task> Worker::next() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || stopping() || !in_order_.empty() || !alternating_.empty(); });
  if (stopping()) return nullptr;
  if (in_order_.empty() && alternating_.empty()) return std::move(last_);
  const bool alternate = in_order_.empty() || (alternate_ && !alternating_.empty());
  Queue& queue = alternate ? alternating_ : in_order_;
  alternate_ = !alternate;
  std::unique_ptr<Task> task = std::move(queue.front());
  queue.pop_front();
  return task;
}

void Worker::loop() {
  block_signals();
  while (std::unique_ptr<Task> task = next()) {
    task->run();
    sink_.deliver(std::move(task));
  }
  sink_.ended(*this);
}

}  // namespace mor::binding
