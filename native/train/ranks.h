// Ranks: what a trainer learns from the trainers of the other ranks, and errors that are errors of all of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "distributed/communicator.h"

namespace mor {

using Numbers = std::vector<double>;

/// What ranks do together. All must do the same at a time.
enum class RankCall : char { texts, trainer, read, step, save };

class Ranks {
 public:
  /// ranks: null for a rank that trains alone. Must outlive this.
  explicit Ranks(HostRanks* ranks) : ranks_(ranks) {}

  /// What `work` gives on every rank, by rank. Throws COMMUNICATION_FAILED where another rank makes another call,
  /// naming both. If `work` throws on some of them, all throw: each of those what its own `work` threw, and the others
  /// an Error with the code and the message of the first, which names its rank. (An error that is not an Error is
  /// INTERNAL there.) Only a COMMUNICATION_FAILED of `work` is thrown without telling the others, who get their own.
  std::vector<Numbers> gather(RankCall call, const std::function<Numbers()>& work) const;
  /// The same of bytes.
  std::vector<std::string> gather_bytes(RankCall call, const std::function<std::string()>& work) const;

  /// 0 of 1 for a rank that trains alone.
  int32_t rank() const { return ranks_ == nullptr ? 0 : ranks_->rank(); }
  int32_t size() const { return ranks_ == nullptr ? 1 : ranks_->size(); }

 private:
  HostRanks* ranks_;
};

/// Throws INVALID_ARGUMENT, on every rank alike, unless the numbers at `place`, which are integers, are the same on all
/// of them. what: names them.
void check_same(const std::vector<Numbers>& ranks, size_t place, const char* what);
/// A value that must be the same on all ranks, and its name in messages. No string has a zero byte.
struct SameOnAll {
  std::string name, value;
};
/// Likewise of what each rank gives, in making a trainer, naming the first that differs. Waits for the other ranks.
void check_same(const Ranks& ranks, const std::vector<SameOnAll>& own);

/// sums[i] += values[i]; sums become as many as the values.
void add_to(Numbers& sums, const Numbers& values);

/// The sums over ranks, in their order: of the numbers at one place. Where one rank has fewer, they count as 0.
Numbers sum_of(const std::vector<Numbers>& ranks);

}  // namespace mor
