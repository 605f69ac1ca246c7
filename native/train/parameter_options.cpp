// What the optimiser does with single parameters.
#include "train/parameter_options.h"

#include <algorithm>
#include <utility>

namespace mor {

Parameters trained_parameters(const ModelConfig& config, const Parameters& parameters,
                              const std::vector<ParameterOptions>& options, int32_t ranks) {
  std::vector<Parameter> rows = parameters.list();
  for (const ParameterOptions& own : options) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Parameter& p) { return p.name == own.name; });
    MOR_CHECK(row != rows.end() && row->trained, INVALID_ARGUMENT, "there are options for ", own.name,
              ", which is no trained parameter of the model");
    row->frozen = own.frozen;
    row->trained = !own.frozen;
  }
  return {config, std::move(rows), ranks};
}

std::vector<ParameterSegment> segments_of(const Parameters& parameters, float weight_decay,
                                          const std::vector<ParameterOptions>& options) {
  std::vector<ParameterSegment> segments = parameters.segments(weight_decay);
  auto segment = segments.begin();
  for (const Parameter& p : parameters.list()) {
    if (!p.trained) continue;
    ParameterSegment& s = *segment++;
    const auto own =
        std::find_if(options.begin(), options.end(), [&](const ParameterOptions& o) { return o.name == p.name; });
    if (own == options.end()) continue;
    s.learning_rate_scale = own->learning_rate_scale.value_or(s.learning_rate_scale);
    s.weight_decay = own->weight_decay.value_or(s.weight_decay);
  }
  return segments;
}

}  // namespace mor
