// Ranks: numbers and errors as the bytes that a communicator carries.
#include "train/ranks.h"

#include <algorithm>
#include <exception>

#include "core/check.h"

namespace mor {

namespace {

/// What a rank sends: what its work gave, or the code of an error and its message, or a text.
enum class Kind : char { result, error, text };

Kind kind_of(const std::string& message) {
  return static_cast<Kind>(message[0]);
}

/// Throws COMMUNICATION_FAILED unless all messages are texts, or none is.
void check_kinds(const std::vector<std::string>& messages, int32_t own, bool texts) {
  for (size_t rank = 0; rank < messages.size(); ++rank)
    MOR_CHECK((kind_of(messages[rank]) == Kind::text) == texts, COMMUNICATION_FAILED, "rank ", own,
              texts ? " gathers texts, but rank " : " takes part in a step or a checkpoint, but rank ", rank,
              texts ? " takes part in a step or a checkpoint" : " gathers texts",
              "; all ranks must make the same calls in the same order, unless one of them has failed, which its own "
              "messages say");
}

std::string message_of(ErrorCode code, const char* what) {
  return std::string{static_cast<char>(Kind::error), static_cast<char>(code)} + what;
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

std::vector<Numbers> Ranks::gather(const std::function<Numbers()>& work) const {
  if (ranks_ == nullptr) return {work()};
  std::vector<Numbers> all;
  for (const std::string& bytes : gather_bytes([&] { return bytes_of(work()); })) all.push_back(numbers_in(bytes));
  return all;
}

std::vector<std::string> Ranks::gather_bytes(const std::function<std::string()>& work) const {
  if (ranks_ == nullptr) return {work()};
  std::string own;
  std::exception_ptr failure;
  try {
    own = static_cast<char>(Kind::result) + work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::COMMUNICATION_FAILED) throw;
    failure = std::current_exception();
    own = message_of(error.code(), error.what());
  } catch (const std::exception& error) {
    failure = std::current_exception();
    own = message_of(ErrorCode::INTERNAL, error.what());
  } catch (...) {
    failure = std::current_exception();
    own = message_of(ErrorCode::INTERNAL, "it was interrupted");
  }
  std::vector<std::string> messages = ranks_->gather(own);
  if (failure != nullptr) std::rethrow_exception(failure);
  check_kinds(messages, ranks_->rank(), false);
  for (size_t rank = 0; rank < messages.size(); ++rank) {
    std::string& message = messages[rank];
    if (kind_of(message) == Kind::error)
      throw Error(static_cast<ErrorCode>(message[1]), concat("rank ", rank, ": ", message.substr(2)), __FILE__,
                  __LINE__);
    message.erase(0, 1);
  }
  return messages;
}

std::vector<std::string> gather_texts(HostRanks& ranks, const std::string& text) {
  std::vector<std::string> texts = ranks.gather(std::string(1, static_cast<char>(Kind::text)) + text);
  check_kinds(texts, ranks.rank(), true);
  for (std::string& each : texts) each.erase(0, 1);
  return texts;
}

void check_same(const std::vector<Numbers>& ranks, size_t place, const char* what) {
  std::vector<int64_t> all;
  for (const Numbers& numbers : ranks) all.push_back(static_cast<int64_t>(numbers[place]));
  check_equal(all, what);
}

void check_same(const Ranks& ranks, const std::string& own, const char* what) {
  check_equal(ranks.gather_bytes([&] { return own; }), what);
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
