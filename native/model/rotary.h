// The table of angles that rotary embedding turns queries and keys by (docs/model.md section 1).
#pragma once

#include <vector>

#include "model/config.h"

namespace mor {

/// [head_dim/2] f_j = theta^(-2j/head_dim) radians per position, scaled as the config says.
std::vector<double> rotary_frequencies(const RotaryConfig& config, int32_t head_dim);

/// [positions, head_dim]: row p holds cos(p * f_j) for every j, then sin(p * f_j). Computed in double.
std::vector<double> rotary_table(const RotaryConfig& config, int32_t head_dim, int32_t positions);

}  // namespace mor
