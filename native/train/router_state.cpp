// The bias of loss-free balancing and running thresholds after a step.
#include "train/router_state.h"

#include <algorithm>
#include <functional>
#include <numeric>

#include "model/host_values.h"
#include "model/routing.h"

namespace mor {

void update_balancing_bias(Model& model, const std::vector<double>& load) {
  std::vector<double> bias = read_master(model.ops(), model.balancing_bias());
  // Loads are counts. The mean, a quotient, would be rounded, and never equal some of them.
  const double total = std::accumulate(load.begin(), load.end(), 0.0), n = static_cast<double>(load.size());
  for (size_t j = 0; j < bias.size(); ++j) bias[j] += 0.001 * ((total > n * load[j]) - (total < n * load[j]));
  upload(model.ops(), bias.data(), model.balancing_bias());
}

std::vector<EnteringScores> entering_scores(const Model& model, const std::vector<Batch>& batches,
                                            const PassOptions& options, const std::vector<PassReport>& reports,
                                            const Readback& readback) {
  const ModelConfig& config = model.config();
  const RoutingRules rules = routing_rules(config);
  std::vector<EnteringScores> recursions(static_cast<size_t>(rules.passes(options.max_recursions)));
  for (size_t i = 0; i < recursions.size(); ++i) {
    const auto r = static_cast<int32_t>(i) + 1;
    if (!rules.asks_router(r)) continue;
    EnteringScores& entering = recursions[i];
    for (size_t m = 0; m < batches.size(); ++m) {
      const std::vector<double> scores = readback.values(reports[m].recursions[i].scores);
      entering.scores.insert(entering.scores.end(), scores.begin(), scores.end());
      entering.wanted += int64_t{batches[m].sequences} *
                         config.selected_count(r, batches[m].length, options.step, options.capacity_warmup_steps);
    }
  }
  return recursions;
}

Numbers numbers_of(const std::vector<EnteringScores>& recursions) {
  Numbers numbers;
  for (const EnteringScores& entering : recursions) {
    numbers.push_back(static_cast<double>(entering.wanted));
    numbers.push_back(static_cast<double>(entering.scores.size()));
    numbers.insert(numbers.end(), entering.scores.begin(), entering.scores.end());
  }
  return numbers;
}

std::vector<EnteringScores> joined_scores(const std::vector<Numbers>& ranks) {
  std::vector<EnteringScores> recursions;
  for (const Numbers& numbers : ranks) {
    size_t i = 0;
    for (auto next = numbers.begin(); next != numbers.end(); ++i) {
      if (i == recursions.size()) recursions.emplace_back();
      EnteringScores& entering = recursions[i];
      entering.wanted += static_cast<int64_t>(*next++);
      const auto count = static_cast<int64_t>(*next++);
      entering.scores.insert(entering.scores.end(), next, next + count);
      next += count;
    }
  }
  return recursions;
}

std::vector<double> update_thresholds(Model& model, std::vector<EnteringScores> recursions) {
  const std::vector<double> before = routing_rules(model).thresholds;
  std::vector<double> thresholds = before;
  for (size_t i = 0; i < recursions.size(); ++i) {
    std::vector<double>& scores = recursions[i].scores;
    if (scores.empty()) continue;
    const auto least = scores.begin() + std::min(recursions[i].wanted, static_cast<int64_t>(scores.size())) - 1;
    std::nth_element(scores.begin(), least, scores.end(), std::greater<>());
    const double momentum = thresholds[i] == 0 ? 0 : model.config().router.threshold_momentum;
    thresholds[i] = momentum * thresholds[i] + (1 - momentum) * *least;
  }
  upload(model.ops(), thresholds.data(), model.thresholds());
  return before;
}

}  // namespace mor
