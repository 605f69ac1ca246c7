// The table of angles that rotary embedding turns queries and keys by (docs/model.md section 1).
#pragma once

#include <vector>

#include "model/config.h"

namespace mor {

/// [max_position_embeddings, head_dim]: row p holds cos(p * f_j) for j < head_dim/2, then sin(p * f_j), with
/// f_j = theta^(-2j/head_dim). Computed in double.
std::vector<double> rotary_table(const ModelConfig& config);

}  // namespace mor
