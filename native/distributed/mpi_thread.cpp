// The communication thread: runs operations, and gives signs of life while there are none.
#include "distributed/mpi_thread.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "distributed/communicator.h"

namespace mor {

namespace {
using Seconds = MpiPeers::Seconds;
/// A rank that other ranks wait for is seldom later than this, when all of them lost the same rank.
constexpr double kGracePerSilence = 0.1;
constexpr Seconds kBetweenChecks{0.1};
}  // namespace

MpiThread::MpiThread(std::unique_ptr<Mpi> mpi, Launcher launcher, const JoinOptions& options)
    : mpi_(std::move(mpi)), launcher_(std::move(launcher)), options_(options), thread_([this] { run(); }) {}

MpiThread::~MpiThread() {
  end();
  thread_.join();
}

// ---- called by other threads

void MpiThread::wait_for_ranks(const std::function<void()>& check) {
  std::unique_lock lock(mutex_);
  const auto ended = [&] { return joined_ || !failure_.empty(); };
  const auto begin = std::chrono::steady_clock::now();
  Seconds left(options_.join_seconds);
  while (!changed_.wait_for(lock, std::min(left, kBetweenChecks), ended) && left.count() > 0) {
    if (check) check();
    left = Seconds(options_.join_seconds) - (std::chrono::steady_clock::now() - begin);
  }
  if (!ended())
    failure_ = concat("MPI_Init of ", mpi_->library(), " did not return within ", options_.join_seconds, " s: do all ",
                      launcher_.size, " ranks start, and do they all train together?");
  throw_failure();
}

uint64_t MpiThread::enter() {
  std::unique_lock lock(mutex_);
  // Where one has left, its last operations are about to end.
  changed_.wait(lock, [&] { return queue_.empty() || phase_ % 2 == 1; });
  throw_failure();
  MOR_CHECK(phase_ % 2 == 0, COMMUNICATION_FAILED,
            "this process has joined the other ranks already; dispose of its ranks before it joins again");
  abandoned_ = false;  // All that was to be given up was finished before.
  gone_ = -1;
  ++phase_;
  changed_.notify_all();
  return phase_;
}

void MpiThread::leave(uint64_t phase) {
  const std::lock_guard lock(mutex_);
  if (phase_ != phase) return;
  if (!queue_.empty()) abandoned_ = true;
  ++phase_;
  changed_.notify_all();
}

void MpiThread::settle(uint64_t phase) {
  std::unique_lock lock(mutex_);
  // The next communicator has begun after the last operation of this one.
  changed_.wait(lock, [&] { return queue_.empty() || phase_ > phase + 1; });
}

void MpiThread::post(uint64_t phase, std::string name, std::function<void(MpiExchange&)> run) {
  const std::lock_guard lock(mutex_);
  throw_failure();
  MOR_CHECK(phase_ == phase, COMMUNICATION_FAILED, name, ": this rank has left the other ranks");
  queue_.push_back({std::move(name), std::move(run)});
  changed_.notify_all();
}

void MpiThread::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return queue_.empty(); });
  throw_failure();
}

void MpiThread::require_present(uint64_t phase) {
  const std::lock_guard lock(mutex_);
  throw_failure();
  MOR_CHECK(phase_ == phase, COMMUNICATION_FAILED, "this rank has left the other ranks");
  MOR_CHECK(gone_ < 0, COMMUNICATION_FAILED, "rank ", gone_, " has left", kWhyLeft);
}

void MpiThread::end() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  if (!queue_.empty()) abandoned_ = true;
  changed_.notify_all();
  if (!joined_) return;
  changed_.wait(lock, [&] { return finalizing_; });
  changed_.wait_for(lock, Seconds(options_.silence_seconds), [&] { return ended_; });
}

void MpiThread::throw_failure() const {
  MOR_CHECK(failure_.empty(), COMMUNICATION_FAILED, failure_);
}

// ---- the thread

void MpiThread::run() {
  try {
    start();
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = error.what();
    changed_.notify_all();
    return;
  }
  work();
  finish();
}

void MpiThread::start() {
  mpi_->init();
  MOR_CHECK(mpi_->size() == launcher_.size && mpi_->rank() == launcher_.rank, COMMUNICATION_FAILED, launcher_.name,
            " started rank ", launcher_.rank, " of ", launcher_.size, ", but it is rank ", mpi_->rank(), " of ",
            mpi_->size(), " for ", mpi_->library(),
            "; start all ranks by this launcher, and if they were, let MOR_MPI_LIBRARY name the library of its family");
  peers_ = std::make_unique<MpiPeers>(*mpi_, Seconds(options_.silence_seconds));
  exchange_ = std::make_unique<MpiExchange>(*mpi_, *peers_, abandoned_);
  const std::lock_guard lock(mutex_);
  joined_ = true;
  changed_.notify_all();
}

void MpiThread::work() {
  // Often enough to read every sign of life before its rank would count as lost.
  const Seconds pause(options_.silence_seconds / 20);
  std::unique_lock lock(mutex_);
  while (!ending_ || !queue_.empty()) {
    const uint64_t phase = phase_;
    peers_->set_state({phase, exchange_->finished()});
    if (!queue_.empty()) {
      run_first(lock);
      continue;
    }
    lock.unlock();
    std::string failure;
    try {
      if (!exchange_->stuck()) {
        peers_->exchange();
        peers_->require_all();
      }
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    if (failure_.empty()) failure_ = failure;
    if (phase_ == phase) gone_ = peers_->gone();
    changed_.wait_for(lock, pause, [&] { return ending_ || !queue_.empty() || phase_ != phase; });
  }
}

/// Runs the first operation of the queue, and clears the queue if it fails.
void MpiThread::run_first(std::unique_lock<std::mutex>& lock) {
  const Operation& operation = queue_.front();  // stays where it is while others are posted
  std::string failure = failure_;
  if (failure.empty()) {
    lock.unlock();
    try {
      operation.run(*exchange_);
      exchange_->finish();
    } catch (const std::exception& error) {
      failure = concat(operation.name, ": ", error.what());
    }
    lock.lock();
  }
  if (failure.empty()) {
    queue_.pop_front();
  } else {
    if (failure_.empty()) failure_ = failure;
    queue_.clear();
  }
  changed_.notify_all();
}

void MpiThread::finish() {
  const auto pause = [](Seconds seconds) { std::this_thread::sleep_for(seconds); };
  bool whole = false;
  try {
    peers_->set_state({kEnded, exchange_->finished()});
    while (!exchange_->stuck() && !peers_->all_ended()) {
      peers_->exchange();
      pause(Seconds(2e-3));
    }
    whole = !exchange_->stuck() && !peers_->any_lost();
  } catch (const std::exception&) {  // A call to MPI failed, and the process ends anyway.
  }
  // The other ranks notice the same, and may say what has happened before this rank ends them.
  if (!whole) pause(Seconds(options_.silence_seconds * kGracePerSilence));
  {
    const std::lock_guard lock(mutex_);
    finalizing_ = true;
    changed_.notify_all();
  }
  try {
    if (whole)
      mpi_->finalize();
    else
      mpi_->abort();
  } catch (const std::exception&) {  // There is nobody left to tell.
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed_.notify_all();
}

}  // namespace mor
