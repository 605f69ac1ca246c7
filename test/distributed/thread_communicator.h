// Ranks that are threads of one process: a communicator for tests. It reads what a rank sends when the call begins, and
// writes what a rank gets in wait() only, with NaN in its place until then. So a test fails if something is sent before
// it is complete, or read before it is there.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "distributed/communicator.h"

namespace mor::test {

/// What the ranks share.
class ThreadRanks {
 public:
  explicit ThreadRanks(int32_t size) : size(size), given_(static_cast<size_t>(size)) {}
  const int32_t size;

  /// What every rank gives in the same call. Throws COMMUNICATION_FAILED on all if one of them has failed.
  std::vector<std::string> exchange(const char* call, int32_t rank, std::string bytes) {
    std::unique_lock lock(mutex_);
    check(call);
    given_[static_cast<size_t>(rank)] = std::move(bytes);
    const uint64_t round = round_;
    if (++arrived_ == size) {
      taken_ = given_;
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ != round || failed_ >= 0; });
    if (round_ == round) check(call);
    return taken_;  // the next round cannot end before this rank takes part in it
  }
  void require_present() {
    const std::lock_guard lock(mutex_);
    check("require_present");
  }
  /// From now on, every call of every rank throws.
  void fail(int32_t rank) {
    const std::lock_guard lock(mutex_);
    if (failed_ < 0) failed_ = rank;
    changed_.notify_all();
  }

 private:
  void check(const char* call) const {
    MOR_CHECK(failed_ < 0, COMMUNICATION_FAILED, call, ": rank ", failed_, " has failed");
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> given_, taken_;
  int32_t arrived_ = 0, failed_ = -1;
  uint64_t round_ = 0;
};

/// Of devices whose memory is the host's.
class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(ThreadRanks& ranks, int32_t rank) : ranks_(ranks), rank_(rank) {}
  int32_t rank() const override { return rank_; }
  int32_t size() const override { return ranks_.size; }

  std::vector<std::string> gather(std::string_view bytes) override {
    count_call();
    return ranks_.exchange("gather", rank_, std::string(bytes));
  }

  /// Of float64, which only the reference device has, the values travel and are added as they are.
  void reduce_scatter(const Tensor& values, const Tensor& sum, DType wire) override {
    MOR_CHECK(values.count() == size() * sum.count() && values.dtype == sum.dtype, INTERNAL, "reduce_scatter of ",
              values.count(), " values into ", sum.count());
    ++started;
    if (values.dtype == DType::float64)
      begin_sum<double>(values, sum, DType::float64);
    else
      begin_sum<float>(values, sum, wire);
  }

  void all_gather(const Tensor& all) override {
    count_call();
    const size_t bytes = static_cast<size_t>(all.count()) * dtype_size(all.dtype), part = bytes / ranks();
    MOR_CHECK(part * ranks() == bytes, INTERNAL, "all_gather of ", all.count(), " elements");
    char* data = static_cast<char*>(all.data);
    std::string own(data + static_cast<size_t>(rank_) * part, part);
    std::memset(data, kNotThere, bytes);
    pending_.push_back([this, data, part, own = std::move(own)] {
      const std::vector<std::string> parts = ranks_.exchange("all_gather", rank_, own);
      for (size_t r = 0; r < parts.size(); ++r) std::memcpy(data + r * part, parts[r].data(), part);
    });
  }

  void wait() override {
    for (const std::function<void()>& finish : std::exchange(pending_, {})) finish();
  }

  /// As if this rank had died.
  void fail() { ranks_.fail(rank_); }
  void abandon() override { fail(); }
  void require_present() override { ranks_.require_present(); }

  int started = 0;  ///< calls of reduce_scatter
  int gathers = 0;  ///< calls of gather and all_gather
  int last = -1;    ///< the call of these, counted from 0, at which this rank fails; -1: none

 private:
  static constexpr int kNotThere = 0xff;  ///< every byte of a NaN

  void count_call() {
    if (gathers++ == last) fail();
  }

  size_t ranks() const { return static_cast<size_t>(size()); }

  template <class T>
  void begin_sum(const Tensor& values, const Tensor& sum, DType wire) {
    const auto all = static_cast<size_t>(values.count()), n = static_cast<size_t>(sum.count());
    std::vector<T> sent(values.as<T>(), values.as<T>() + all);
    if (wire == DType::bfloat16)
      for (T& value : sent) value = static_cast<T>(static_cast<float>(bfloat16(static_cast<float>(value))));
    T* to = sum.as<T>();
    std::memset(to, kNotThere, n * sizeof(T));
    pending_.push_back([this, to, n, sent = std::move(sent)] {
      const std::vector<std::string> parts = ranks_.exchange(
          "reduce_scatter", rank_, {reinterpret_cast<const char*>(sent.data()), sent.size() * sizeof(T)});
      std::fill_n(to, n, T(0));
      for (const std::string& part : parts)
        for (size_t i = 0; i < n; ++i) {
          T value;
          std::memcpy(&value, part.data() + (static_cast<size_t>(rank_) * n + i) * sizeof(T), sizeof(T));
          to[i] += value;
        }
    });
  }

  ThreadRanks& ranks_;
  const int32_t rank_;
  std::vector<std::function<void()>> pending_;
};

/// Runs `body` for every rank on a thread of its own, and returns what each threw, or null. A rank that throws has
/// failed for the others.
inline std::vector<std::exception_ptr> failures_of_ranks(int32_t size,
                                                         const std::function<void(ThreadCommunicator&)>& body) {
  ThreadRanks ranks(size);
  std::vector<std::exception_ptr> failures(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        ThreadCommunicator communicator(ranks, rank);
        body(communicator);
      } catch (...) {
        failures[static_cast<size_t>(rank)] = std::current_exception();
        ranks.fail(rank);
      }
    });
  for (std::thread& thread : threads) thread.join();
  return failures;
}

/// Likewise, but throws what one of them threw, if one did: preferably not that another rank has failed.
inline void run_ranks(int32_t size, const std::function<void(ThreadCommunicator&)>& body) {
  std::exception_ptr chosen;
  bool of_another = true;
  for (const std::exception_ptr& failure : failures_of_ranks(size, body)) {
    if (failure == nullptr || !of_another) continue;
    chosen = failure;
    try {
      std::rethrow_exception(failure);
    } catch (const Error& error) {
      of_another = error.code() == ErrorCode::COMMUNICATION_FAILED;
    } catch (...) {
      of_another = false;
    }
  }
  if (chosen != nullptr) std::rethrow_exception(chosen);
}

}  // namespace mor::test
