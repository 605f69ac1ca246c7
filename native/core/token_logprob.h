// A token with its log-probability, and how many of them a request may ask for at each position. C++17 that compiles
// for the GPU too.
#pragma once

#include <cstdint>

namespace mor {

struct TokenLogprob {
  int32_t token = -1;  ///< -1: no token, since the vocabulary has no more
  float logprob = 0;   ///< natural logarithm of the token's probability at temperature 1
};

constexpr int32_t kMostTopLogprobs = 20;  ///< most tokens that one row may list

}  // namespace mor
