// Whether the ranks still train the same model.
#pragma once

#include "model/model.h"
#include "train/ranks.h"

namespace mor {

/// Of all that a model's checkpoint holds: weights, balancing bias and running thresholds, bit for bit.
uint64_t weights_hash(const Model& model);

/// Throws COMMUNICATION_FAILED on every rank, naming those that differ from most, unless all have the same weights.
/// steps_done: for the message.
void check_same_weights(const Ranks& ranks, RankCall call, const Model& model, int64_t steps_done);

}  // namespace mor
