// Targets for the ops that end in a loss.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace mor::test {

/// Every fifth row is ignored.
inline std::vector<int32_t> some_targets(int64_t rows, int64_t vocabulary) {
  std::mt19937 generator(3);
  std::vector<int32_t> target;
  for (int64_t i = 0; i < rows; ++i)
    target.push_back(i % 5 == 4 ? -1 : static_cast<int32_t>(generator() % static_cast<uint32_t>(vocabulary)));
  return target;
}

}  // namespace mor::test
