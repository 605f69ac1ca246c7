// What a step adjusts of a router without gradients: the bias of loss-free balancing, and running thresholds.
#pragma once

#include <vector>

#include "model/model_passes.h"
#include "train/ranks.h"

namespace mor {

/// b_j += u sign(mean load - load_j), u = 0.001 (docs/model.md section 4). load: [N] of a step, on all ranks.
void update_balancing_bias(Model& model, const std::vector<double>& load);

/// What one recursion's threshold learns from.
struct EnteringScores {
  std::vector<double> scores;  ///< of the tokens that entered the recursion
  int64_t wanted = 0;          ///< how many tokens the capacities ask for
};
/// [recursions] of the batches and reports of a step; without scores where no router is asked. All batches had these
/// options.
std::vector<EnteringScores> entering_scores(const Model& model, const std::vector<Batch>& batches,
                                            const PassOptions& options, const std::vector<PassReport>& reports,
                                            const Readback& readback);
/// As numbers that other ranks are told, and from theirs those of all.
Numbers numbers_of(const std::vector<EnteringScores>& recursions);
std::vector<EnteringScores> joined_scores(const std::vector<Numbers>& ranks);

/// theta_r moves towards the k-th largest of the scores that entered recursion r in the step, where k is how many
/// tokens the capacities ask for (docs/model.md section 3). A threshold that is 0 has not been measured yet. Returns
/// the thresholds as they were.
std::vector<double> update_thresholds(Model& model, std::vector<EnteringScores> recursions);

}  // namespace mor
