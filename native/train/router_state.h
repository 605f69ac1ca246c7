// What a step adjusts of a router without gradients: the bias of loss-free balancing, and running thresholds.
#pragma once

#include <vector>

#include "model/model_passes.h"

namespace mor {

/// b_j += u sign(mean load - load_j), u = 0.001 (docs/model.md section 4). load: [N] of a step.
void update_balancing_bias(Model& model, const std::vector<double>& load);

/// theta_r moves towards the k-th largest of the scores that entered recursion r in the step, where k is how many
/// tokens the capacities ask for (docs/model.md section 3). A threshold that is 0 has not been measured yet. Batches
/// and their reports are those of a step; all of them had these options. Returns the thresholds as they were.
std::vector<double> update_thresholds(Model& model, const std::vector<Batch>& batches, const PassOptions& options,
                                      const std::vector<PassReport>& reports, const Readback& readback);

}  // namespace mor
