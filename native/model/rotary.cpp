// Rotary frequencies and the table of their angles.
#include "model/rotary.h"

#include <cmath>

namespace mor {

std::vector<double> rotary_table(const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  std::vector<double> table(static_cast<size_t>(config.max_position_embeddings) * static_cast<size_t>(2 * half));
  for (int64_t position = 0; position < config.max_position_embeddings; ++position)
    for (int64_t j = 0; j < half; ++j) {
      const double angle =
          static_cast<double>(position) *
          std::pow(config.rope_theta, -2.0 * static_cast<double>(j) / static_cast<double>(config.head_dim));
      table[static_cast<size_t>(position * 2 * half + j)] = std::cos(angle);
      table[static_cast<size_t>(position * 2 * half + half + j)] = std::sin(angle);
    }
  return table;
}

}  // namespace mor
