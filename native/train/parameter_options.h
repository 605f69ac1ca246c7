// What the optimiser does with single parameters: learning rate, weight decay, or nothing at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"

namespace mor {

struct ParameterOptions {
  std::string name;                            ///< of a trained parameter
  std::optional<float> learning_rate_scale{};  ///< factor of the trainer's rate; in place of the parameter's own
  std::optional<float> weight_decay{};         ///< in place of the trainer's, also where a parameter does not decay
  bool frozen = false;                         ///< stays as it is, and its gradient does not count in the norm
};

/// What the optimiser is given of a model's parameters.
struct Optimized {
  std::vector<ParameterSegment> segments;  ///< those that are trained and not frozen
  std::vector<const Parameter*> frozen;    ///< whose gradients are to be 0
};

/// weight_decay: that of the parameters that decay. Throws INVALID_ARGUMENT for a name that is no trained parameter.
Optimized optimized(const Parameters& parameters, float weight_decay, const std::vector<ParameterOptions>& options);

}  // namespace mor
