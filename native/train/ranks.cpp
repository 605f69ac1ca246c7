// Ranks: numbers and errors as the bytes that a communicator carries.
#include "train/ranks.h"

#include <algorithm>
#include <exception>
#include <sstream>

#include "core/check.h"

namespace mor {

namespace {

/// A message begins with the call and this, before what the work gave or the code of an error and its message.
enum class Outcome : char { result, error };
constexpr size_t kHead = 2;

RankCall call_of(const std::string& message) {
  return static_cast<RankCall>(message[0]);
}

bool is_error(const std::string& message) {
  return static_cast<Outcome>(message[1]) == Outcome::error;
}

std::string head_of(RankCall call, Outcome outcome) {
  return {static_cast<char>(call), static_cast<char>(outcome)};
}

std::string message_of(RankCall call, ErrorCode code, const char* what) {
  return head_of(call, Outcome::error) + static_cast<char>(code) + what;
}

const char* name_of(RankCall call) {
  switch (call) {
    case RankCall::texts:
      return "gathers texts";
    case RankCall::trainer:
      return "makes a trainer";
    case RankCall::read:
      return "reads a checkpoint";
    case RankCall::step:
      return "takes a step";
    case RankCall::save:
      return "saves a checkpoint";
  }
  MOR_FAIL(INTERNAL, "there is no call ", static_cast<int>(call));
}

/// Throws COMMUNICATION_FAILED unless all messages are of the call that this rank makes.
void check_calls(const std::vector<std::string>& messages, int32_t own) {
  const RankCall call = call_of(messages[static_cast<size_t>(own)]);
  for (size_t rank = 0; rank < messages.size(); ++rank)
    MOR_CHECK(call_of(messages[rank]) == call, COMMUNICATION_FAILED, "rank ", own, " ", name_of(call), ", but rank ",
              rank, " ", name_of(call_of(messages[rank])),
              "; all ranks must make the same calls in the same order, unless one of them has failed, which its own "
              "messages say");
}

std::string bytes_of(const Numbers& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(double)};
}

Numbers numbers_in(const std::string& bytes) {
  Numbers numbers(bytes.size() / sizeof(double));
  std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(numbers.data()));
  return numbers;
}

template <class T>
void check_equal(const std::vector<T>& by_rank, const char* what) {
  for (size_t rank = 1; rank < by_rank.size(); ++rank)
    MOR_CHECK(by_rank[rank] == by_rank[0], INVALID_ARGUMENT, "ranks differ in ", what, ": ", by_rank[0],
              " on rank 0, but ", by_rank[rank], " on rank ", rank,
              "; give all ranks the same model, options and checkpoint");
}

}  // namespace

std::vector<Numbers> Ranks::gather(RankCall call, const std::function<Numbers()>& work) const {
  if (ranks_ == nullptr) return {work()};
  std::vector<Numbers> all;
  for (const std::string& bytes : gather_bytes(call, [&] { return bytes_of(work()); }))
    all.push_back(numbers_in(bytes));
  return all;
}

std::vector<std::string> Ranks::gather_bytes(RankCall call, const std::function<std::string()>& work) const {
  if (ranks_ == nullptr) return {work()};
  std::string own;
  std::exception_ptr failure;
  try {
    own = head_of(call, Outcome::result) + work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::COMMUNICATION_FAILED) throw;
    failure = std::current_exception();
    own = message_of(call, error.code(), error.what());
  } catch (const std::exception& error) {
    failure = std::current_exception();
    own = message_of(call, ErrorCode::INTERNAL, error.what());
  } catch (...) {
    failure = std::current_exception();
    own = message_of(call, ErrorCode::INTERNAL, "it was interrupted");
  }
  std::vector<std::string> messages = ranks_->gather(own);
  if (failure != nullptr) std::rethrow_exception(failure);
  check_calls(messages, ranks_->rank());
  for (size_t rank = 0; rank < messages.size(); ++rank) {
    std::string& message = messages[rank];
    if (is_error(message))
      throw Error(static_cast<ErrorCode>(message[kHead]), concat("rank ", rank, ": ", message.substr(kHead + 1)),
                  __FILE__, __LINE__);
    message.erase(0, kHead);
  }
  return messages;
}

void check_same(const std::vector<Numbers>& ranks, size_t place, const char* what) {
  std::vector<int64_t> all;
  for (const Numbers& numbers : ranks) all.push_back(static_cast<int64_t>(numbers[place]));
  check_equal(all, what);
}

void check_same(const Ranks& ranks, const std::vector<SameOnAll>& own) {
  const std::vector<std::string> told = ranks.gather_bytes(RankCall::trainer, [&] {
    std::string all;
    for (const auto& [name, value] : own) all += name + '\0' + value + '\0';
    return all;
  });
  std::vector<std::istringstream> by_rank(told.begin(), told.end());
  for (size_t i = 0; i < own.size(); ++i) {
    std::vector<std::string> names, values;
    for (std::istringstream& of_rank : by_rank) {
      std::getline(of_rank, names.emplace_back(), '\0');
      std::getline(of_rank, values.emplace_back(), '\0');
    }
    check_equal(names, "what their trainers must have in common");
    check_equal(values, names[0].c_str());
  }
}

void add_to(Numbers& sums, const Numbers& values) {
  sums.resize(std::max(sums.size(), values.size()));
  for (size_t i = 0; i < values.size(); ++i) sums[i] += values[i];
}

Numbers sum_of(const std::vector<Numbers>& ranks) {
  Numbers sums;
  for (const Numbers& values : ranks) add_to(sums, values);
  return sums;
}

}  // namespace mor
