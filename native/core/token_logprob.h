// A token of the vocabulary with its log-probability, and how many of them may be asked for at a position.
// C++17 and device-clean; must not know how they are found.
#pragma once

#include <cstdint>

namespace mor {

struct TokenLogprob {
  int32_t token = -1;  ///< -1: none, where the vocabulary has no more
  float logprob = 0;   ///< natural logarithm of its probability at temperature 1
};

constexpr int32_t kMostTopLogprobs = 20;  ///< most tokens that one row may list

}  // namespace mor
