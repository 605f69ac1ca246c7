// The bias of loss-free balancing and running thresholds after a step.
#include "train/router_state.h"

#include <algorithm>
#include <functional>

#include "model/host_values.h"
#include "model/routing.h"

namespace mor {

void update_balancing_bias(Model& model, const std::vector<double>& load) {
  std::vector<double> bias = read_master(model.ops(), model.balancing_bias());
  double mean = 0;
  for (const double l : load) mean += l / static_cast<double>(load.size());
  for (size_t j = 0; j < bias.size(); ++j) bias[j] += 0.001 * ((mean > load[j]) - (mean < load[j]));
  upload(model.ops(), bias.data(), model.balancing_bias());
}

std::vector<double> update_thresholds(Model& model, const std::vector<Batch>& batches, const PassOptions& options,
                                      const std::vector<PassReport>& reports, const Readback& readback) {
  const ModelConfig& config = model.config();
  const RoutingRules rules = routing_rules(model);
  std::vector<double> thresholds = rules.thresholds;
  for (int32_t r = 1; r <= rules.passes(options.max_recursions); ++r) {
    if (!rules.asks_router(r)) continue;
    const size_t i = static_cast<size_t>(r) - 1;
    std::vector<double> scores;
    int64_t wanted = 0;
    for (size_t m = 0; m < batches.size(); ++m) {
      const std::vector<double> entering = readback.values(reports[m].recursions[i].scores);
      scores.insert(scores.end(), entering.begin(), entering.end());
      wanted += int64_t{batches[m].sequences} *
                config.selected_count(r, batches[m].length, options.step, options.capacity_warmup_steps);
    }
    if (scores.empty()) continue;
    const auto least = scores.begin() + std::min(wanted, static_cast<int64_t>(scores.size())) - 1;
    std::nth_element(scores.begin(), least, scores.end(), std::greater<>());
    const double momentum = thresholds[i] == 0 ? 0 : config.router.threshold_momentum;
    thresholds[i] = momentum * thresholds[i] + (1 - momentum) * *least;
  }
  upload(model.ops(), thresholds.data(), model.thresholds());
  return rules.thresholds;
}

}  // namespace mor
