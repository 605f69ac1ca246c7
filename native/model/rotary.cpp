// Rotary frequencies and the table of their angles.
#include "model/rotary.h"

#include <algorithm>
#include <cmath>

namespace mor {

namespace {

double scaled(double frequency, const RotaryConfig& c) {
  if (c.scaling == RotaryScaling::none) return frequency;
  if (c.scaling == RotaryScaling::linear) return frequency / c.factor;
  const double turns = c.original_max_position * frequency / (2 * 3.14159265358979323846);
  const double kept = std::clamp((turns - c.low_freq_factor) / (c.high_freq_factor - c.low_freq_factor), 0.0, 1.0);
  return kept * frequency + (1 - kept) * frequency / c.factor;
}

}  // namespace

std::vector<double> rotary_frequencies(const RotaryConfig& config, int32_t head_dim) {
  std::vector<double> frequencies;
  for (int32_t j = 0; j < head_dim / 2; ++j)
    frequencies.push_back(scaled(std::pow(config.theta, -2.0 * j / head_dim), config));
  return frequencies;
}

std::vector<double> rotary_table(const RotaryConfig& config, int32_t head_dim, int32_t positions) {
  const std::vector<double> frequencies = rotary_frequencies(config, head_dim);
  std::vector<double> table;
  table.reserve(static_cast<size_t>(positions) * 2 * frequencies.size());
  for (int32_t position = 0; position < positions; ++position) {
    for (const double f : frequencies) table.push_back(std::cos(position * f));
    for (const double f : frequencies) table.push_back(std::sin(position * f));
  }
  return table;
}

}  // namespace mor
