// The table of angles by which tests rotate rows, and positions of rows in it.
#pragma once

#include "test/ops/harness.h"

namespace mor::test {

constexpr int64_t kPositions = 11;

/// [kPositions, head_dim] cosines, then sines of position * 10000^(-2j/head_dim) (Su et al. 2021).
inline Array angles(int64_t head_dim) {
  Array table(kPositions, head_dim);
  for (int64_t p = 0; p < kPositions; ++p)
    for (int64_t j = 0; j < head_dim / 2; ++j) {
      const double angle =
          static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim));
      table(p, j) = std::cos(angle);
      table(p, head_dim / 2 + j) = std::sin(angle);
    }
  return table;
}

/// [rows] out of order, the first at 3, and repeated where there are more rows than positions.
inline std::vector<int32_t> positions(int64_t rows) {
  std::vector<int32_t> position;
  for (int64_t i = 0; i < rows; ++i) position.push_back(static_cast<int32_t>((i * 5 + 3) % kPositions));
  return position;
}

}  // namespace mor::test
