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

/// The parameters of a model as a trainer has them: those that are frozen have no place in the optimiser. ranks: how
/// many share the flat buffers (Parameters::Parameters). Throws INVALID_ARGUMENT for a name that is no trained
/// parameter.
Parameters trained_parameters(const ModelConfig& config, const Parameters& parameters,
                              const std::vector<ParameterOptions>& options, int32_t ranks = 1);

/// The optimiser's segments of such parameters. weight_decay: that of the parameters that decay.
std::vector<ParameterSegment> segments_of(const Parameters& parameters, float weight_decay,
                                          const std::vector<ParameterOptions>& options);

}  // namespace mor
