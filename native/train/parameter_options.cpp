// What the optimiser does with single parameters.
#include "train/parameter_options.h"

#include <algorithm>

namespace mor {

Optimized optimized(const Parameters& parameters, float weight_decay, const std::vector<ParameterOptions>& options) {
  const auto is_trained = [&](const ParameterOptions& own) {
    const std::vector<Parameter>& list = parameters.list();
    return std::any_of(list.begin(), list.end(), [&](const Parameter& p) { return p.trained && p.name == own.name; });
  };
  for (const ParameterOptions& own : options)
    MOR_CHECK(is_trained(own), INVALID_ARGUMENT, "there are options for ", own.name,
              ", which is no trained parameter of the model");
  Optimized found;
  std::vector<ParameterSegment> segments = parameters.segments(weight_decay);
  auto segment = segments.begin();
  for (const Parameter& p : parameters.list()) {
    if (!p.trained) continue;
    ParameterSegment s = *segment++;
    const auto own =
        std::find_if(options.begin(), options.end(), [&](const ParameterOptions& o) { return o.name == p.name; });
    if (own != options.end()) {
      s.learning_rate_scale = own->learning_rate_scale.value_or(s.learning_rate_scale);
      s.weight_decay = own->weight_decay.value_or(s.weight_decay);
      if (own->frozen) {
        found.frozen.push_back(&p);
        continue;
      }
    }
    found.segments.push_back(s);
  }
  return found;
}

}  // namespace mor
