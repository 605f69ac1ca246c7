// Ranks around rank 0: it accepts the connections of the others, gathers what they give, and passes it on.
#include "distributed/tcp_ranks.h"

#include <sys/socket.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <utility>

#include "core/check.h"
#include "distributed/tcp_connection.h"

namespace mor {

namespace {

using Kind = TcpConnection::Kind;

constexpr double kHelloSeconds = 5;  ///< a rank that has connected says at once who it is
constexpr uint64_t kMostHello = 64;

std::string name_of(int32_t rank) {
  return concat("rank ", rank);
}

/// The parts of a message: a count and a size before each.
std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) {
    const uint64_t size = part.size();
    all.append(reinterpret_cast<const char*>(&size), sizeof size);
    all += part;
  }
  return all;
}
std::vector<std::string> parts_of(std::string_view all) {
  std::vector<std::string> parts;
  while (!all.empty()) {
    uint64_t size = 0;
    MOR_CHECK(all.size() >= sizeof size, COMMUNICATION_FAILED, "rank 0 sent a broken list");
    std::memcpy(&size, all.data(), sizeof size);
    all.remove_prefix(sizeof size);
    MOR_CHECK(all.size() >= size, COMMUNICATION_FAILED, "rank 0 sent a broken list");
    parts.emplace_back(all.substr(0, size));
    all.remove_prefix(size);
  }
  return parts;
}

class Ranks : public HostRanks {
 public:
  explicit Ranks(TcpOptions options) : options_(std::move(options)) {}
  int32_t rank() const override { return options_.rank; }
  int32_t size() const override { return options_.size; }

  void abandon() override {
    if (!left_.exchange(true)) shut();
  }
  std::vector<std::string> gather(std::string_view bytes) override {
    // A trainer and a gather of texts have threads of their own. One after the other, they may find that another rank
    // calls them in another order; at once, they would mix what they send.
    const std::lock_guard lock(calls_);
    std::vector<std::string> all;
    guarded([&] { all = exchange(bytes); });
    return all;
  }
  void require_present() override {
    const std::unique_lock lock(calls_, std::try_to_lock);
    if (lock) guarded([&] { look_after(); });  // otherwise a call under way does
  }

 protected:
  virtual std::vector<std::string> exchange(std::string_view bytes) = 0;
  virtual void look_after() = 0;
  /// Closes the connections.
  virtual void shut() = 0;
  /// Tells the others why this rank fails, if it can.
  virtual void pass_on(const std::string& /*failure*/) {}

  /// What a call throws, every later one throws too.
  void guarded(const std::function<void()>& body) {
    MOR_CHECK(failure_.empty(), COMMUNICATION_FAILED, failure_);
    try {
      return body();
    } catch (const std::exception& error) {
      // Thrown by a check, or by the library, such as for want of memory.
      const auto* known = dynamic_cast<const Error*>(&error);
      const bool own = known == nullptr || known->code() != ErrorCode::COMMUNICATION_FAILED;
      failure_ = left_ ? concat("rank ", rank(), " has left the others")
                       : concat(own ? concat("rank ", rank(), ": ") : "", error.what());
      pass_on(failure_);
      if (own) throw;
    }
    MOR_FAIL(COMMUNICATION_FAILED, failure_);
  }
  const TcpOptions& options() const { return options_; }

 private:
  const TcpOptions options_;
  std::mutex calls_;
  std::string failure_;
  std::atomic<bool> left_ = false;
};

class RankZero final : public Ranks {
 public:
  RankZero(const TcpOptions& options, const std::function<void()>& check)
      : Ranks(options), others_(static_cast<size_t>(options.size)) {
    if (options.size > 1) guarded([&] { accept_all(check); });
  }

 private:
  void accept_all(const std::function<void()>& check) {
    const Deadline deadline = after(options().join_seconds, check);
    const Socket listener = listen_at(options().address, options().port, options().one_machine);
    for (int32_t missing = size() - 1; missing > 0;) {
      MOR_CHECK(wait_readable({listener.get()}, deadline), COMMUNICATION_FAILED, missing_ranks());
      Socket socket(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket.get() >= 0 && greet({std::move(socket), "a process", options().silence_seconds})) --missing;
    }
    for (const TcpConnection& other : others_)
      if (other.open()) other.send(Kind::data, "", after(options().silence_seconds));
  }

  std::string missing_ranks() const {
    std::string names;
    int32_t count = 0;
    for (int32_t r = 1; r < size(); ++r)
      if (!others_[static_cast<size_t>(r)].open()) names += concat(count++ == 0 ? "" : ", ", r);
    return concat(count == 1 ? "rank " : "ranks ", names, " of ", size(), " did not join within ",
                  options().join_seconds, " s at ", options().address, ":", options().port,
                  "; look whether they were started, and reach this address");
  }

  /// Whether a rank is at the other end. Somebody else, who scans ports, say, is sent away.
  bool greet(TcpConnection connection) {
    int32_t its_rank = 0, its_size = 0;
    try {
      const std::string hello = connection.receive(after(kHelloSeconds), kMostHello).bytes;
      if (std::sscanf(hello.c_str(), "mor rank %d of %d", &its_rank, &its_size) != 2) return false;
    } catch (const Error&) {
      return false;
    }
    connection.name_peer(name_of(its_rank));
    std::string wrong;
    if (its_size != size())
      wrong = concat("rank ", its_rank, " was started as one of ", its_size, " ranks, but rank 0 as one of ", size());
    else if (its_rank < 1 || its_rank >= size())
      wrong = concat("a process says that it is rank ", its_rank, " of ", size());
    else if (others_[static_cast<size_t>(its_rank)].open())
      wrong = concat("two processes say that they are rank ", its_rank);
    if (!wrong.empty()) {
      wrong += "; start every rank once, all with the same number of ranks";
      connection.send(Kind::failure, wrong, after(kHelloSeconds));
      MOR_FAIL(COMMUNICATION_FAILED, wrong);
    }
    others_[static_cast<size_t>(its_rank)] = std::move(connection);
    return true;
  }

  std::vector<std::string> exchange(std::string_view bytes) override {
    std::vector<std::string> all(others_.size());
    all[0] = bytes;
    std::vector<size_t> missing;
    for (size_t r = 1; r < others_.size(); ++r) missing.push_back(r);
    while (!missing.empty()) {
      std::vector<int> descriptors;
      for (const size_t r : missing) descriptors.push_back(others_[r].descriptor());
      wait_readable(descriptors, {never().time, [&] {
                                    for (const size_t r : missing) others_[r].require_answers();
                                  }});
      std::vector<size_t> still;
      for (const size_t r : missing) {
        if (!wait_readable({others_[r].descriptor()}, Deadline{})) {
          still.push_back(r);
          continue;
        }
        const TcpConnection::Message message = others_[r].receive(never());
        MOR_CHECK(message.kind == Kind::data, COMMUNICATION_FAILED, name_of(static_cast<int32_t>(r)), ": ",
                  message.bytes);
        all[r] = message.bytes;
      }
      missing = std::move(still);
    }
    const std::string list = joined(all);
    for (size_t r = 1; r < others_.size(); ++r) others_[r].send(Kind::data, list, never());
    return all;
  }

  void look_after() override {
    for (size_t r = 1; r < others_.size(); ++r) {
      MOR_CHECK(!others_[r].ended(), COMMUNICATION_FAILED, "rank ", r, " has left", kWhyLeft);
      others_[r].require_answers();
    }
  }

  void shut() override {
    for (const TcpConnection& other : others_) other.shut();
  }

  void pass_on(const std::string& failure) override {
    for (const TcpConnection& other : others_) {
      if (!other.open()) continue;
      try {
        other.send(Kind::failure, failure, after(kHelloSeconds));
      } catch (const Error&) {  // it is gone
      }
    }
  }

  std::vector<TcpConnection> others_;  ///< by rank; the first one is not open
};

class OtherRank final : public Ranks {
 public:
  OtherRank(const TcpOptions& options, const std::function<void()>& check) : Ranks(options) {
    zero_ = {options.address, options.port, name_of(0), options.silence_seconds, options.join_seconds, check};
    zero_.send(Kind::data, concat("mor rank ", rank(), " of ", size()), after(kHelloSeconds));
    // Rank 0 answers when all have joined, or when it has waited as long for the last of them as this rank does for it.
    const Deadline deadline = after(options.join_seconds + options.silence_seconds, check);
    TcpConnection::Message answer;
    try {
      answer = zero_.receive(deadline);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::COMMUNICATION_FAILED) throw;  // thrown by the check
      MOR_FAIL(COMMUNICATION_FAILED, error.what(), ": ", options.address, ":", options.port,
               "; look whether another program listens there, and if so, give all ranks a free port of rank 0's "
               "machine as MOR_MASTER_PORT");
    }
    MOR_CHECK(answer.kind == Kind::data, COMMUNICATION_FAILED, answer.bytes);
    MOR_CHECK(answer.bytes.empty(), COMMUNICATION_FAILED, "what listens at ", options.address, ":", options.port,
              " is not rank 0; give all ranks a free port of rank 0's machine as MOR_MASTER_PORT");
  }

 private:
  std::string receive(const Deadline& deadline) {
    const TcpConnection::Message message = zero_.receive(deadline);
    MOR_CHECK(message.kind == Kind::data, COMMUNICATION_FAILED, message.bytes);
    return message.bytes;
  }

  std::vector<std::string> exchange(std::string_view bytes) override {
    try {
      zero_.send(Kind::data, bytes, never());
    } catch (const Error&) {
      look_after();  // before rank 0 closed the connection, it has said why
      throw;
    }
    std::vector<std::string> all = parts_of(receive(never()));
    MOR_CHECK(all.size() == static_cast<size_t>(size()), COMMUNICATION_FAILED, "rank 0 sent the values of ", all.size(),
              " ranks instead of ", size());
    return all;
  }

  void look_after() override {
    while (zero_.ended()) receive(after(kHelloSeconds));  // ends by throwing what rank 0 says, or that it has left
    zero_.require_answers();
  }

  void shut() override { zero_.shut(); }

  TcpConnection zero_;
};

}  // namespace

std::unique_ptr<HostRanks> join_tcp(const TcpOptions& options, const std::function<void()>& check) {
  MOR_CHECK(options.size >= 1 && options.rank >= 0 && options.rank < options.size, COMMUNICATION_FAILED, "rank ",
            options.rank, " of ", options.size, " is none; RANK counts from 0 and is less than WORLD_SIZE");
  MOR_CHECK(options.port >= 1 && options.port <= 65535, COMMUNICATION_FAILED, "the port is ", options.port,
            ", but must be from 1 to 65535");
  if (options.rank == 0) return std::make_unique<RankZero>(options, check);
  return std::make_unique<OtherRank>(options, check);
}

}  // namespace mor
